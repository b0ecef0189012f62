# What the scripts here share: servers that run, and the load on them. Builds grantling.

missing=()
for command in go wrk curl ${NEEDS:-}; do command -v "$command" >/dev/null || missing+=("$command"); done
[ "${#missing[@]}" -eq 0 ] || { echo "$0: missing: ${missing[*]} (docs/benchmarks.md says where from)" >&2; exit 1; }

tmp=$(mktemp -d)
declare -A pid url # of the servers that run, by name
clean() {
	trap - EXIT INT TERM
	for name in "${!pid[@]}"; do kill -9 "${pid[$name]}" 2>/dev/null || true; done
	rm -rf "$tmp"
}
trap clean EXIT
trap 'exit 130' INT TERM

# run NAME COMMAND...: starts a server, which prints its URL once it answers;
# $took is how long that was, in microseconds.
run() {
	local name=$1 began
	shift
	rm -f "$tmp/out"
	mkfifo "$tmp/out"
	began=${EPOCHREALTIME/./}
	"$@" >"$tmp/out" 2>"$tmp/log.$name" </dev/null &
	pid[$name]=$!
	read -r -t 60 "url[$name]" <"$tmp/out" || { cat "$tmp/log.$name" >&2; exit 1; }
	took=$((${EPOCHREALTIME/./} - began))
}

# end NAME [SIGNAL]
end() {
	kill -"${2:-TERM}" "${pid[$1]}"
	wait "${pid[$1]}" 2>/dev/null || true
	unset "pid[$1]"
}

kib() { awk -v key="$2:" '$1 == key {print $2}' "/proc/${pid[$1]}/status"; }
ticks() { awk '{print $14 + $15}' "/proc/${pid[$1]}/stat"; }
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
ms() { awk -v us="$1" 'BEGIN {printf "%.1f", us / 1000}'; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.2f", a / b}'; }
json() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

# load NAME PATH CONNECTIONS: one turn under wrk; prints what request.lua does.
load() {
	wrk -t1 -c"$3" -d"${DURATION}s" -s request.lua "${url[$1]}$2" | sed -n 's/^RESULT //p'
}

echo 'building' >&2
(cd .. && go build -o "$tmp/grantling" .)
if [ -z "${FLAGS+set}" ]; then
	FLAGS='-log off'
	"$tmp/grantling" -h 2>&1 | grep -q -- '-inspect' && FLAGS+=' -inspect=false'
fi
client='"clients": [{"client_id": "web", "client_secret": "web-secret", "redirect_uris": ["https://cb.example/cb"], "scope": "read write"}]'
user() { echo "{\"username\": \"$1\", \"password\": \"a password of $1\"}"; }
echo "{\"users\": [$(user alice)], $client}" >"$tmp/one.json"

# grantling NAME DB [FLAG...]
grantling() {
	local name=$1 db=$2
	shift 2
	run "$name" "$tmp/grantling" -addr 127.0.0.1:0 -db "$db" $FLAGS "$@"
}

form='client_id=web&client_secret=web-secret'
issue="$form&grant_type=client_credentials"

# issued NAME: an access token of client credentials.
issued() { curl -sS -d "$issue" "${url[$1]}/oauth/token" | json access_token; }

# granted NAME: an access token of alice's.
granted() {
	local back code
	back=$(curl -sS -o /dev/null -w '%{redirect_url}' "${url[$1]}/oauth/authorize?response_type=code&client_id=web&state=xyz&redirect_uri=https%3A%2F%2Fcb.example%2Fcb")
	code=${back#*code=}
	curl -sS -d "$form&grant_type=authorization_code&redirect_uri=https%3A%2F%2Fcb.example%2Fcb&code=${code%%&*}" "${url[$1]}/oauth/token" | json access_token
}
