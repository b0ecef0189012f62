#!/usr/bin/env bash
# Measures the real grantling under wrk, beside a bare handler (the floor) and
# go-oauth2 in memory: start, memory, CPU, requests a second, latency. Prints
# markdown tables; docs/benchmarks.md says what they mean. Linux only.
#
#	bench/load.sh                                      # about three minutes
#	ROUNDS=1 DURATION=1 bench/load.sh                  # a quick look
#	LIVE='100000 1000000' bench/load.sh                # also with files of so many live tokens
#	FLAGS='' bench/load.sh                             # with log and inspector, as started by default
#
# ROUNDS   how often all take their turns; figures are medians of rounds (3)
# DURATION seconds of each turn (2)
# STARTS   how often each start is timed (5)
set -euo pipefail
cd "$(dirname "$0")"
ROUNDS=${ROUNDS:-3} DURATION=${DURATION:-2} STARTS=${STARTS:-5} LIVE=${LIVE:-}

. ./common.sh
go build -o "$tmp/" ./floor ./oauth2
echo "{\"users\": [$(user alice), $(user bob), $(user carol), $(user dave), $(user erin)]}" >"$tmp/five.json"
echo "{$client}" >"$tmp/none.json"

# --- rates and latency -------------------------------------------------------

servers=(floor oauth2 file memory)
declare -A title=([floor]=floor [oauth2]='go-oauth2, in memory' [file]='grantling, file' [memory]='grantling, `:memory:`')
declare -A idle bearer token
run floor "$tmp/floor"
run oauth2 "$tmp/oauth2"
grantling file "$tmp/load.db" -fixtures "$tmp/one.json" -auto-approve alice
grantling memory :memory: -fixtures "$tmp/one.json" -auto-approve alice
for s in "${servers[@]}"; do idle[$s]=$(kib "$s" VmRSS); done
bearer=([floor]=x [oauth2]=$(issued oauth2) [file]=$(granted file) [memory]=$(granted memory))
token=([floor]=x [oauth2]=$(issued oauth2) [file]=$(issued file) [memory]=$(issued memory))

# turn ROUND PATH CONNECTIONS NAME: notes requests/s, p50, p99 and CPU a request.
turn() {
	local before requests us failures p50 p99
	before=$(ticks "$4")
	read -r requests us failures p50 p99 < <(
		case $2 in
		issue) FORM=$issue load "$4" /oauth/token "$3" ;;
		introspect) FORM="$form&token=${token[$4]}" load "$4" /oauth/introspect "$3" ;;
		userinfo) BEARER=${bearer[$4]} load "$4" /userinfo "$3" ;;
		esac
	)
	[ "$failures" -eq 0 ] && [ "$requests" -gt 0 ] || { echo "load.sh: $2 at $4: $failures of $requests failed" >&2; exit 1; }
	echo "$1 $2 $3 $4 $((requests * 1000000 / us)) $p50 $p99 $((($(ticks "$4") - before) * 1000000 / $(getconf CLK_TCK) / requests))" >>"$tmp/turns"
}
for ((round = 1; round <= ROUNDS; round++)); do
	echo "round $round of $ROUNDS" >&2
	for path in issue userinfo introspect; do
		for connections in 64 1; do
			for s in "${servers[@]}"; do turn "$round" "$path" "$connections" "$s"; done
		done
	done
done

echo "## Rates: medians of $ROUNDS interleaved rounds of $DURATION s, grantling $FLAGS"
echo
echo '| what | connections | server | rate to floor | p50 to floor | p99 to floor | CPU to floor | requests/s | p50 ms | p99 ms | CPU µs |'
echo '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |'
for path in issue userinfo introspect; do
	for connections in 64 1; do
		for s in "${servers[@]}"; do
			# column N: the median of a figure; column N to floor: that of its ratios in each round
			column() { awk -v p="$path" -v c="$connections" -v s="$s" -v n="$1" '$2 == p && $3 == c && $4 == s {print $n}' "$tmp/turns" | median; }
			to_floor() {
				awk -v p="$path" -v c="$connections" -v s="$s" -v n="$1" '
					$2 == p && $3 == c && $4 == "floor" {floor[$1] = $n}
					$2 == p && $3 == c && $4 == s {print $n / floor[$1]}' "$tmp/turns" | median
			}
			printf '| %s | %d | %s | %.2f | %.1f | %.1f | %.1f | %d | %s | %s | %d |\n' "$path" "$connections" "${title[$s]}" \
				"$(to_floor 5)" "$(to_floor 6)" "$(to_floor 7)" "$(to_floor 8)" "$(column 5)" "$(ms "$(column 6)")" "$(ms "$(column 7)")" "$(column 8)"
		done
	done
done

echo
echo '## Resident memory, MiB'
echo
echo '| server | idle | after the load | at most |'
echo '| --- | --- | --- | --- |'
for s in "${servers[@]}"; do
	echo "| ${title[$s]} | $((idle[$s] / 1024)) | $(($(kib "$s" VmRSS) / 1024)) | $(($(kib "$s" VmHWM) / 1024)) |"
	end "$s"
done

# --- start --------------------------------------------------------------------

# starts ROW COMMAND...: the median time of a command that starts the server
# "it"; $base is that of the row to compare with.
starts() {
	local row=$1 n
	shift
	for ((n = 0; n < STARTS; n++)); do
		"$@"
		echo "$took"
		end it
	done >"$tmp/starts"
	us=$(median <"$tmp/starts")
	echo "| $row | $(ms "$us") | $(ratio "$us" "${base:-$us}") |"
}
first() { rm -f "$tmp/start.db"; grantling it "$tmp/start.db" -fixtures "$1"; }
echo
echo "## Start, to the URL on standard output: medians of $STARTS"
echo
echo '| what | ms | to a later start without users |'
echo '| --- | --- | --- |'
grantling it "$tmp/none.db" -fixtures "$tmp/none.json"
end it
base=
starts 'later start, no users' grantling it "$tmp/none.db" -fixtures "$tmp/none.json"
base=$us
starts floor run it "$tmp/floor"
starts 'go-oauth2, in memory' run it "$tmp/oauth2"
starts '`:memory:`, no users' grantling it :memory: -fixtures "$tmp/none.json"
starts 'first start, no users' first "$tmp/none.json"
starts 'first start, five users in the fixtures' first "$tmp/five.json"
starts 'later start, five users in the fixtures' grantling it "$tmp/start.db" -fixtures "$tmp/five.json"

# --- many live tokens ---------------------------------------------------------

[ -n "$LIVE" ] || exit 0
killed() { # starts on a file that was being written when its server was killed
	grantling it "$1"
	FORM=$issue DURATION=1 load it /oauth/token 64 >/dev/null &
	sleep 0.5
	end it KILL
	wait "$!" || true
	grantling it "$1"
}
clock() { curl -sS -d '{"advance":"25h"}' "${url[it]}/_control/clock" >/dev/null; }
asked() { FORM="$form&token=$(issued it)" load it /oauth/introspect 64; }
echo
echo '## Many live tokens'
echo
echo '| live | file MiB | bytes a token | idle MiB | start after SIGTERM | after kill -9 | p99 of introspection while sweeping, to before |'
echo '| --- | --- | --- | --- | --- | --- | --- |'
for n in $LIVE; do
	echo "$n live tokens" >&2
	db=$tmp/live.db
	rm -f "$db"
	(cd .. && FILL=$db LIVE=$n go test -count=1 -run '^TestFill$' . >/dev/null)
	size=$(stat -c %s "$db")
	starts '' grantling it "$db" >/dev/null
	later=$us
	starts '' killed "$db" >/dev/null
	grantling it "$db" -control
	memory=$(kib it VmRSS)
	read -r _ _ _ _ before < <(asked)
	clock
	read -r _ _ _ _ sweeping < <(asked)
	end it
	echo "| $n | $((size >> 20)) | $((size / n)) | $((memory / 1024)) | $(ratio "$later" "$base") times | $(ratio "$us" "$base") times | $(ratio "$sweeping" "$before") times |"
done
