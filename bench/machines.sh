#!/usr/bin/env bash
# Measures grantling on etcd, beside etcd itself: how fast one server issues and
# checks tokens to etcd's own rate for the same bytes, and how fast two are to one
# where etcd is far away. Prints markdown tables; docs/benchmarks.md says what they
# mean. Linux only.
#
#	bench/machines.sh                                  # about five minutes
#	ROUNDS=1 DURATION=1 bench/machines.sh              # a quick look
#	MEMBERS=3 bench/machines.sh                        # all on this machine: three times the work
#
# ROUNDS   how often all take their turns; figures are medians of ratios of rounds (3)
# DURATION seconds of each turn (3)
# MEMBERS  of etcd (1)
# DELAY    milliseconds to etcd and as many back, for two servers to one (20)
# CALLERS  connections to each server there (256)
set -euo pipefail
cd "$(dirname "$0")"
ROUNDS=${ROUNDS:-3} DURATION=${DURATION:-3} MEMBERS=${MEMBERS:-1} DELAY=${DELAY:-20} CALLERS=${CALLERS:-256}

NEEDS='etcd etcdctl'
. ./common.sh
go build -o "$tmp/direct" ./etcd
GOBIN=$tmp go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0
mv "$tmp/server" "$tmp/toxiproxy"

# --- etcd, and the same through proxies that delay -----------------------------

port=${PORT:-23790}
cluster=
for ((m = 1; m <= MEMBERS; m++)); do cluster+=${cluster:+,}m$m=http://127.0.0.1:$((port + 10 * m + 1)); done
near= far=
for ((m = 1; m <= MEMBERS; m++)); do
	client=http://127.0.0.1:$((port + 10 * m)) peer=http://127.0.0.1:$((port + 10 * m + 1))
	etcd --name "m$m" --data-dir "$tmp/m$m" --initial-cluster "$cluster" --listen-client-urls "$client" --advertise-client-urls "$client" \
		--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" >"$tmp/log.m$m" 2>&1 &
	pid[m$m]=$!
	near+=${near:+,}${client#http://} far+=${far:+,}127.0.0.1:$((port + 10 * m + 2))
done
"$tmp/toxiproxy" -port "$((port + 2))" >"$tmp/log.toxiproxy" 2>&1 &
pid[toxiproxy]=$!
ETCDCTL_API=3 etcdctl --endpoints "$near" --command-timeout 30s put ready yes >/dev/null
proxy() { curl -sSf --retry 20 --retry-connrefused --retry-delay 1 -d "$2" "http://127.0.0.1:$((port + 2))/proxies$1" >/dev/null; }
for ((m = 1; m <= MEMBERS; m++)); do
	proxy '' "{\"name\": \"m$m\", \"listen\": \"127.0.0.1:$((port + 10 * m + 2))\", \"upstream\": \"127.0.0.1:$((port + 10 * m))\"}"
	for stream in upstream downstream; do
		proxy "/m$m/toxics" "{\"type\": \"latency\", \"stream\": \"$stream\", \"attributes\": {\"latency\": $DELAY}}"
	done
done
grantling near "etcd://$near/near" -fixtures "$tmp/one.json" -auto-approve alice
grantling far1 "etcd://$far/far" -fixtures "$tmp/one.json"
grantling far2 "etcd://$far/far" -fixtures "$tmp/one.json"
grantling file "$tmp/load.db" -fixtures "$tmp/one.json" -auto-approve alice

# --- one server, to etcd's own rate ---------------------------------------------

basic=$(printf web:web-secret | base64)
bearer=([0]=$(granted near) [1]=$(granted file))
token=([0]=$(issued near) [1]=$(issued file))
cpu_of_etcd() { for ((m = 1; m <= MEMBERS; m++)); do ticks "m$m"; done | awk '{n += $1} END {print n}'; }
us() { echo $((($1) * 1000000 / $(getconf CLK_TCK) / $2)); }

# turn ROUND WHAT CONNECTIONS WHO: notes requests/s, p50, p99, and CPU a request: the server's and etcd's.
turn() {
	local server etcd requests us failures p50 p99 at=0
	[ "$4" != file ] || at=1
	[ "$4" = direct ] || server=$(ticks "$4")
	etcd=$(cpu_of_etcd)
	read -r requests us failures p50 p99 < <(
		case $4/$2 in
		direct/issue) "$tmp/direct" "${near%%,*}" issue "$3" "$DURATION" ;;
		direct/*) "$tmp/direct" "${near%%,*}" check "$3" "$DURATION" ;;
		*/issue) BASIC=$basic FORM=grant_type=client_credentials load "$4" /oauth/token "$3" ;;
		*/introspect) BASIC=$basic FORM="token=${token[$at]}" load "$4" /oauth/introspect "$3" ;;
		*/userinfo) BEARER=${bearer[$at]} load "$4" /userinfo "$3" ;;
		esac
	)
	[ "$failures" -eq 0 ] && [ "$requests" -gt 0 ] || { echo "machines.sh: $2 at $4: $failures of $requests failed" >&2; exit 1; }
	[ "$4" = direct ] && server=0 || server=$(($(ticks "$4") - server))
	echo "$1 $2 $3 $4 $((requests * 1000000 / us)) $p50 $p99 $(us "$server" "$requests") $(us "$(cpu_of_etcd) - $etcd" "$requests")" >>"$tmp/turns"
}

# to WHAT CONNECTIONS WHO OTHER COLUMN: the median of the ratios of each round.
to() {
	awk -v p="$1" -v c="$2" -v s="$3" -v o="$4" -v n="$5" '
		$2 == p && $3 == c && $4 == s {one[$1] = $n}
		$2 == p && $3 == c && $4 == o {other[$1] = $n}
		END {for (r in one) if (other[r]) print one[r] / other[r]}' "$tmp/turns" | median
}
for ((round = 1; round <= ROUNDS; round++)); do
	echo "round $round of $ROUNDS" >&2
	for what in issue userinfo introspect; do
		for connections in 64 1; do
			for who in direct near file; do turn "$round" "$what" "$connections" "$who"; done
		done
	done
	for who in far1 far2; do FORM=grant_type=client_credentials BASIC=$basic DURATION=1 load "$who" /oauth/token "$CALLERS" >/dev/null; done
	for what in issue introspect; do
		form=grant_type=client_credentials path=/oauth/token
		[ "$what" = issue ] || form="token=$(issued far1)" path=/oauth/introspect
		# asked SERVER ONE|TWO: a long turn, because each request waits for a few hundred milliseconds
		asked() { DURATION=$((2 * DURATION)) BASIC=$basic FORM=$form load "$1" "$path" "$CALLERS" | sed "s/^/$round $what $2 /" >>"$tmp/far"; }
		asked far1 one
		asked far2 one
		asked far1 two &
		asked far2 two
		wait "$!"
	done
done

echo "## One server, $MEMBERS members of etcd: medians of $ROUNDS interleaved rounds of $DURATION s, grantling $FLAGS"
echo
echo "| what | connections | rate to etcd's own | p50 | p99 | CPU of etcd, to its own | CPU of the server, to that with a file | requests/s | etcd's own |"
echo '| --- | --- | --- | --- | --- | --- | --- | --- | --- |'
for what in issue userinfo introspect; do
	for connections in 64 1; do
		rate() { awk -v p="$what" -v c="$connections" -v s="$1" '$2 == p && $3 == c && $4 == s {print $5}' "$tmp/turns" | median; }
		printf '| %s | %d | %.2f | %.1f | %.1f | %.1f | %.1f | %.0f | %.0f |\n' "$what" "$connections" "$(to "$what" "$connections" near direct 5)" \
			"$(to "$what" "$connections" near direct 6)" "$(to "$what" "$connections" near direct 7)" "$(to "$what" "$connections" near direct 9)" \
			"$(to "$what" "$connections" near file 8)" "$(rate near)" "$(rate direct)"
	done
done
echo
echo "## Two servers, to one: $DELAY ms to etcd and as many back, $CALLERS connections to each"
echo
echo '| what | rate of both, to that of one alone | requests/s of one |'
echo '| --- | --- | --- |'
for what in issue introspect; do
	awk -v p="$what" '$2 == p && $6 > 0 {print "failures:", $0 >"/dev/stderr"; exit 1}' "$tmp/far"
	printf '| %s | %.2f | %.0f |\n' "$what" \
		"$(awk -v p="$what" '$2 == p {rate = $4 * 1e6 / $5} $2 == p && $3 == "one" {one[$1] += rate / 2} $2 == p && $3 == "two" {two[$1] += rate}
			END {for (r in one) print two[r] / one[r]}' "$tmp/far" | median)" \
		"$(awk -v p="$what" '$2 == p && $3 == "one" {print $4 * 1e6 / $5}' "$tmp/far" | median)"
done
for name in "${!pid[@]}"; do end "$name"; done
