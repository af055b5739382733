#!/usr/bin/env bash
# Calls every HTTP endpoint of a running server and one WebSocket, and prints one line for each check.
#
# Usage: ./test_realtime_api.sh [--table <name>] [--verbose] [--help]
#
#   --table <name>   An existing table of schema public for the row change checks. Default: a new table, if
#                    DATABASE_URL is set and psql is installed, else the example table messages or test_table.
#   --verbose        Prints each request before its check.
#
# Environment:
#   REALTIME_URL     The server (default: http://localhost:8080).
#   ADMIN_TOKEN      A server admin's token. Default: one signed by "npm run token" in this clone.
#   USER_TOKEN       A token of any other role. Default: as above.
#   DATABASE_URL     The server's database, for creating the table.
#
# Needs bash and curl. Removes the channel and the table that it creates, and disables the table if it was not enabled
# before. Exits with 0 when all checks pass, 1 when one fails or a token is rejected, 2 for invalid arguments.
set -u
cd "$(dirname "$0")" || exit 1

URL="${REALTIME_URL:-http://localhost:8080}"
URL="${URL%/}"
CHANNEL="api-test-$$-$RANDOM"
TABLE=""
VERBOSE=""
PASSED=0
FAILED=0
BODY=""
STATUS=""

usage() { sed -n '2,/^set -u/s/^# \{0,1\}//p' "$0"; }
invalid() { printf '%s See --help.\n' "$1" >&2; exit 2; }
stop() { printf '%s\n' "$1" >&2; exit 1; }

while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --verbose) VERBOSE=1 ;;
    --table) [ -n "${2:-}" ] || invalid '--table needs a value.'; TABLE="$2"; shift ;;
    *) invalid "Unknown argument $1." ;;
  esac
  shift
done
[[ "$TABLE" =~ ^[A-Za-z0-9_]*$ ]] || invalid '--table takes the name of a table in schema public, of letters, digits and _.'
command -v curl >/dev/null || stop 'curl is not installed.'

ok() { PASSED=$((PASSED + 1)); printf 'ok      %s\n' "$1"; }
bad() { FAILED=$((FAILED + 1)); printf 'FAILED  %s\n        %s\n' "$1" "$2"; }
show() { if [ -n "$VERBOSE" ]; then printf '> %s %s\n' "$1" "$2"; fi; }

# call METHOD PATH [TOKEN] [BODY]: sets STATUS and BODY.
call() {
  show "$1" "$2"
  local options=(--silent --show-error --max-time 10 --request "$1" --write-out $'\n%{http_code}')
  # curl reads the token from a file descriptor: every user of the machine can see arguments.
  [ -n "${4:-}" ] && options+=(--header 'Content-Type: application/json' --data "$4")
  local answer
  answer=$(curl "${options[@]}" --header @<(printf 'Authorization: Bearer %s\n' "${3:-none}") "$URL$2" 2>&1)
  STATUS="${answer##*$'\n'}"
  BODY="${answer%$'\n'*}"
}

# expect NAME STATUS TEXT METHOD PATH [TOKEN] [BODY]: checks the status, and that the answer contains the text.
expect() {
  local name="$1" status="$2" text="$3"
  shift 3
  call "$@"
  if [ "$STATUS" = "$status" ] && [[ "$BODY" == *"$text"* ]]; then ok "$name"; else bad "$name" "expected $status with '$text', got $STATUS: ${BODY:0:300}"; fi
}

# json_value NAME: the value of a string field in BODY.
json_value() { [[ "$BODY" =~ \"$1\":\"([^\"]*)\" ]] && printf '%s' "${BASH_REMATCH[1]}"; }

WORK=$(mktemp -d) || exit 1
SOCKET_PID=""
CREATED_CHANNEL=""
CREATED_TABLE=""
ENABLED_TABLE=""
clean_up() {
  [ -n "$SOCKET_PID" ] && kill "$SOCKET_PID" 2>/dev/null
  [ -n "$CREATED_CHANNEL" ] && call DELETE "/realtime/channels/$CHANNEL" "$ADMIN"
  [ -n "$ENABLED_TABLE" ] && call DELETE "/realtime/triggers/$TABLE" "$ADMIN"
  [ -n "$CREATED_TABLE" ] && run_sql "DROP TABLE $TABLE"
  rm -rf "$WORK"
} >/dev/null 2>&1
trap clean_up EXIT
trap 'exit 130' INT TERM

run_sql() { psql --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1 --command "$1" "$DATABASE_URL"; }

# sign USER ROLE: a token of the server in this clone, which REALTIME_URL does not configure.
sign() { env -u REALTIME_URL npm run --silent token -- --user "$1" --role "$2" --expires 10m; }

# check_token NAME VARIABLE TOKEN PATH: stops when the server rejects the token.
check_token() {
  call GET "$4" "$3"
  case "$STATUS" in
    401) stop "The server at $URL rejected the $1 token. Set $2 to a token signed with the secret of this server." ;;
    403) stop "The $1 token does not have the needed role. Set $2 to another one." ;;
  esac
}

call GET /healthz
[ "$STATUS" = 200 ] || stop "No server answers at $URL. Start one with: npm start"
if [ -z "${ADMIN_TOKEN:-}" ] || [ -z "${USER_TOKEN:-}" ]; then
  command -v npm >/dev/null || stop 'npm is not installed to sign tokens. Set ADMIN_TOKEN and USER_TOKEN.'
fi
ADMIN="${ADMIN_TOKEN:-$(sign api-test-admin admin)}" || exit 1
PERSON="${USER_TOKEN:-$(sign api-test-user user)}" || exit 1
check_token admin ADMIN_TOKEN "$ADMIN" /realtime/stats
check_token user USER_TOKEN "$PERSON" /realtime/channels

printf 'Testing %s\n\n' "$URL"

expect 'GET /healthz'                        200 '"ok"'                     GET /healthz
expect 'GET /readyz'                         200 '"ready"'                  GET /readyz
expect 'GET /openapi.json'                   200 '"openapi":"3.1.0"'        GET /openapi.json
expect 'GET /docs'                           200 'swagger-ui'               GET /docs
expect 'GET /'                               200 'GoForward Realtime'       GET /
expect 'GET /test_websocket.html'            200 'GoForward Realtime'       GET /test_websocket.html

# Channels, messages and presence.
expect 'POST /realtime/channels'             201 "\"name\":\"$CHANNEL\""    POST /realtime/channels "$ADMIN" "{\"name\":\"$CHANNEL\",\"max_subscribers\":100,\"metadata\":{\"category\":\"test\"}}"
[ "$STATUS" = 201 ] && CREATED_CHANNEL=1
expect 'POST again: CHANNEL_EXISTS'          409 CHANNEL_EXISTS             POST /realtime/channels "$ADMIN" "{\"name\":\"$CHANNEL\"}"
expect 'POST without a name'                 400 VALIDATION_FAILED          POST /realtime/channels "$ADMIN" '{}'
expect 'POST broken JSON'                    400 INVALID_JSON               POST /realtime/channels "$ADMIN" '{"name":'
expect 'POST as a user: PERMISSION_DENIED'   403 PERMISSION_DENIED          POST /realtime/channels "$PERSON" "{\"name\":\"$CHANNEL-2\"}"
expect 'POST without a token: AUTH_FAILED'   401 AUTH_FAILED                POST /realtime/channels '' "{\"name\":\"$CHANNEL-2\"}"
expect 'GET /realtime/channels'              200 "\"name\":\"$CHANNEL\""    GET /realtime/channels "$PERSON"
expect 'GET /realtime/channels/:name'        200 '"subscriber_count":0'     GET "/realtime/channels/$CHANNEL" "$PERSON"
expect 'GET an unknown channel'              404 CHANNEL_NOT_FOUND          GET "/realtime/channels/$CHANNEL-unknown" "$PERSON"
expect 'PUT: METHOD_NOT_ALLOWED'             405 METHOD_NOT_ALLOWED         PUT "/realtime/channels/$CHANNEL" "$ADMIN"
expect 'POST …/broadcast'                    200 '"id":"msg_'               POST "/realtime/channels/$CHANNEL/broadcast" "$PERSON" '{"type":"message","event":"test","payload":{"data":"test"}}'
expect 'POST …/broadcast of type system'     400 VALIDATION_FAILED          POST "/realtime/channels/$CHANNEL/broadcast" "$PERSON" '{"type":"system","event":"test"}'
expect 'POST …/presence'                     200 'presence updated'         POST "/realtime/channels/$CHANNEL/presence" "$PERSON" '{"state":{"status":"busy"}}'
expect 'GET …/presence'                      200 '"status":"busy"'          GET "/realtime/channels/$CHANNEL/presence" "$PERSON"
expect 'GET …/stats'                         200 '"presence_count":1'       GET "/realtime/channels/$CHANNEL/stats" "$PERSON"
expect 'GET /realtime/stats'                 200 '"active_connections"'     GET /realtime/stats "$ADMIN"
expect 'GET /metrics'                        200 realtime_connections       GET /metrics "$ADMIN"
expect 'GET an unknown path'                 404 NOT_FOUND                  GET /realtime/unknown "$ADMIN"

# A WebSocket. curl does the handshake and prints the frames, whose texts are not masked.
wait_for() {
  local tries
  for tries in {1..100}; do
    grep --quiet --text --fixed-strings "$2" "$WORK/socket" 2>/dev/null && { ok "$1"; return; }
    sleep 0.1
  done
  bad "$1" "no '$2' within 10 s: $(head -c 300 "$WORK/socket" 2>/dev/null | tr -cd '[:print:]')"
}
show GET "/realtime/channels/$CHANNEL/ws"
curl --silent --no-buffer --http1.1 --max-time 120 --output "$WORK/socket" \
  --header 'Connection: Upgrade' --header 'Upgrade: websocket' \
  --header 'Sec-WebSocket-Version: 13' --header 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' \
  --header @<(printf 'Sec-WebSocket-Protocol: goforward.v1, bearer.%s\n' "$ADMIN") \
  "$URL/realtime/channels/$CHANNEL/ws" &
SOCKET_PID=$!
wait_for 'GET …/ws: the WebSocket joins the channel' '"event":"connected"'
expect 'POST …/broadcast to the WebSocket'   200 '"id":"msg_'               POST "/realtime/channels/$CHANNEL/broadcast" "$PERSON" '{"event":"hello","payload":{"message":"hi"}}'
wait_for 'The WebSocket receives the message' '"event":"hello"'

# Row changes.
if [ -z "$TABLE" ] && [ -n "${DATABASE_URL:-}" ] && command -v psql >/dev/null; then
  TABLE="api_test_$$_$RANDOM"
  problem=$(run_sql "CREATE TABLE $TABLE (id int PRIMARY KEY)" 2>&1) || stop "psql cannot create a table in DATABASE_URL: $problem"
  CREATED_TABLE=1
fi
call GET /realtime/triggers "$ADMIN"
triggers="$BODY"
for table in ${TABLE:-messages test_table}; do
  [[ "$triggers" == *"\"table\":\"$table\",\"schema\":\"public\""* ]] && WAS_ENABLED=1 || WAS_ENABLED=""
  call POST "/realtime/triggers/$table" "$ADMIN" '{}'
  TABLE="$table"
  [ "$STATUS" = 200 ] && break
done
if [ "$STATUS" = 200 ]; then
  ok 'POST /realtime/triggers/:table'
  [ -z "$WAS_ENABLED" ] && ENABLED_TABLE=1
else
  bad 'POST /realtime/triggers/:table' "table $TABLE: $STATUS: ${BODY:0:300} (name a table with --table, or set DATABASE_URL and install psql)"
fi
expect 'GET /realtime/triggers'              200 "\"$TABLE\""               GET /realtime/triggers "$ADMIN"
expect 'POST …/subscribe'                    200 'subscribed to database'   POST "/realtime/channels/$CHANNEL/subscribe" "$ADMIN" "{\"table\":\"$TABLE\",\"events\":[\"INSERT\",\"UPDATE\"]}"
SUBSCRIPTION=$(json_value subscription_id)
expect 'POST …/subscribe to no table'        400 DB_SUBSCRIPTION_FAILED     POST "/realtime/channels/$CHANNEL/subscribe" "$ADMIN" '{"table":"nonexistent"}'
expect 'POST …/subscribe as a user'          403 PERMISSION_DENIED          POST "/realtime/channels/$CHANNEL/subscribe" "$PERSON" "{\"table\":\"$TABLE\"}"
expect 'GET /realtime/subscriptions'         200 "\"id\":\"$SUBSCRIPTION\"" GET /realtime/subscriptions "$ADMIN"
expect 'GET /realtime/subscriptions/:id'     200 '"counts"'                 GET "/realtime/subscriptions/$SUBSCRIPTION" "$ADMIN"
expect 'POST /realtime/explain'              200 '"visible":'               POST /realtime/explain "$ADMIN" "{\"user\":{\"sub\":\"api-test-user\"},\"table\":\"$TABLE\",\"row\":{\"id\":1}}"
if [ -n "$CREATED_TABLE" ]; then
  run_sql "INSERT INTO $TABLE VALUES (1)"
  wait_for 'The WebSocket receives the row change' '"type":"database_change"'
fi
expect 'DELETE /realtime/subscriptions/:id'  200 'subscription removed'     DELETE "/realtime/subscriptions/$SUBSCRIPTION" "$ADMIN"
if [ -n "$ENABLED_TABLE" ]; then
  expect 'DELETE /realtime/triggers/:table'  200 'trigger removed'          DELETE "/realtime/triggers/$TABLE" "$ADMIN"
  [ "$STATUS" = 200 ] && ENABLED_TABLE=""
else
  # The table was enabled before: others may follow it.
  expect 'DELETE /realtime/triggers/:table'  404 TABLE_NOT_FOUND            DELETE /realtime/triggers/nonexistent "$ADMIN"
fi

expect 'DELETE /realtime/channels/:name'     200 'deleted successfully'     DELETE "/realtime/channels/$CHANNEL" "$ADMIN"
[ "$STATUS" = 200 ] && CREATED_CHANNEL=""
wait_for 'The WebSocket is told that the channel was closed' '"event":"channel_closed"'
expect 'GET the deleted channel'             404 CHANNEL_NOT_FOUND          GET "/realtime/channels/$CHANNEL" "$PERSON"

printf '\n%d passed, %d failed\n' "$PASSED" "$FAILED"
[ "$FAILED" -eq 0 ]
