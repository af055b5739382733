#!/usr/bin/env bash
# Calls every HTTP endpoint of a running server and one WebSocket, prints a line for each and a total, and
# exits with 1 when something was not as it should be.
#
#   ./test_realtime_api.sh
#   REALTIME_URL=https://realtime.example.com ADMIN_TOKEN=… ./test_realtime_api.sh
#
# Needs bash, curl and, for the WebSocket and where no token is given, this clone with Node.js.
set -u
cd "$(dirname "$0")" || exit 1

URL="${REALTIME_URL:-http://localhost:8080}"
CHANNEL="api-test-$$-$RANDOM"
PASSED=0
FAILED=0
BODY=""
STATUS=""

case "${1:-}" in
  -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac

ok() { PASSED=$((PASSED + 1)); printf 'ok      %s\n' "$1"; }
bad() { FAILED=$((FAILED + 1)); printf 'FAILED  %s\n        %s\n' "$1" "$2"; }

# call METHOD PATH [TOKEN] [BODY]: sets STATUS and BODY.
call() {
  local options=(--silent --show-error --max-time 10 --request "$1" --write-out $'\n%{http_code}')
  # curl reads the token from a file descriptor: arguments can be seen by every user of the machine.
  [ -n "${4:-}" ] && options+=(--header 'Content-Type: application/json' --data "$4")
  local answer
  answer=$(curl "${options[@]}" --header @<(printf 'Authorization: Bearer %s\n' "${3:-none}") "$URL$2" 2>&1)
  STATUS="${answer##*$'\n'}"
  BODY="${answer%$'\n'*}"
}

# expect NAME STATUS TEXT METHOD PATH [TOKEN] [BODY]: the status, and a text that the answer must have.
expect() {
  local name="$1" status="$2" text="$3"
  shift 3
  call "$@"
  if [ "$STATUS" = "$status" ] && [[ "$BODY" == *"$text"* ]]; then ok "$name"; else bad "$name" "wanted $status with '$text', got $STATUS: ${BODY:0:300}"; fi
}

call GET /healthz
if [ "$STATUS" != 200 ]; then
  printf 'No server answers at %s. Start one with: npm start\n' "$URL" >&2
  exit 1
fi

# sign USER ROLE: a token of the server of this clone, whose settings REALTIME_URL is none of.
sign() { env -u REALTIME_URL npm run --silent token -- --user "$1" --role "$2" --expires 10m; }
ADMIN="${ADMIN_TOKEN:-$(sign api-test-admin admin)}" || exit 1
USER_TOKEN_TEXT="${USER_TOKEN:-$(sign api-test-user user)}" || exit 1

printf 'Testing %s\n\n' "$URL"

expect 'GET /healthz'                        200 '"ok"'                     GET /healthz
expect 'GET /readyz'                         200 '"ready"'                  GET /readyz
expect 'GET /openapi.json'                   200 '"openapi":"3.1.0"'        GET /openapi.json
expect 'GET /docs'                           200 'swagger-ui'               GET /docs
expect 'GET /'                               200 'GoForward Realtime'       GET /
expect 'GET /test_websocket.html'            200 'GoForward Realtime'       GET /test_websocket.html

expect 'POST /realtime/channels'             201 "\"name\":\"$CHANNEL\""    POST /realtime/channels "$ADMIN" "{\"name\":\"$CHANNEL\",\"max_subscribers\":100,\"metadata\":{\"category\":\"test\"}}"
expect 'POST again: CHANNEL_EXISTS'          409 CHANNEL_EXISTS             POST /realtime/channels "$ADMIN" "{\"name\":\"$CHANNEL\"}"
expect 'POST without a name'                 400 VALIDATION_FAILED          POST /realtime/channels "$ADMIN" '{}'
expect 'POST broken JSON'                    400 INVALID_JSON               POST /realtime/channels "$ADMIN" '{"name":'
expect 'POST as a user: PERMISSION_DENIED'   403 PERMISSION_DENIED          POST /realtime/channels "$USER_TOKEN_TEXT" "{\"name\":\"$CHANNEL-2\"}"
expect 'POST without a token: AUTH_FAILED'   401 AUTH_FAILED                POST /realtime/channels '' "{\"name\":\"$CHANNEL-2\"}"
expect 'GET /realtime/channels'              200 "\"name\":\"$CHANNEL\""    GET /realtime/channels "$USER_TOKEN_TEXT"
expect 'GET /realtime/channels/:name'        200 '"subscriber_count":0'     GET "/realtime/channels/$CHANNEL" "$USER_TOKEN_TEXT"
expect 'GET an unknown channel'              404 CHANNEL_NOT_FOUND          GET "/realtime/channels/$CHANNEL-unknown" "$USER_TOKEN_TEXT"
expect 'PUT: METHOD_NOT_ALLOWED'             405 METHOD_NOT_ALLOWED         PUT "/realtime/channels/$CHANNEL" "$ADMIN"
expect 'POST …/broadcast'                    200 '"id":"msg_'               POST "/realtime/channels/$CHANNEL/broadcast" "$USER_TOKEN_TEXT" '{"type":"message","event":"test","payload":{"data":"test"}}'
expect 'POST …/broadcast of type system'     400 VALIDATION_FAILED          POST "/realtime/channels/$CHANNEL/broadcast" "$USER_TOKEN_TEXT" '{"type":"system","event":"test"}'
expect 'POST …/presence'                     200 'presence updated'         POST "/realtime/channels/$CHANNEL/presence" "$USER_TOKEN_TEXT" '{"state":{"status":"busy"}}'
expect 'GET …/presence'                      200 '"status":"busy"'          GET "/realtime/channels/$CHANNEL/presence" "$USER_TOKEN_TEXT"
expect 'GET …/stats'                         200 '"presence_count":1'       GET "/realtime/channels/$CHANNEL/stats" "$USER_TOKEN_TEXT"
expect 'GET /realtime/stats'                 200 '"active_connections"'     GET /realtime/stats "$ADMIN"
expect 'GET /metrics'                        200 realtime_connections       GET /metrics "$ADMIN"
expect 'GET an unknown path'                 404 NOT_FOUND                  GET /realtime/unknown "$ADMIN"

# A socket that joins, publishes, and waits for its own message.
SOCKET_URL="ws${URL#http}/realtime/channels/$CHANNEL/ws"
if said=$(TOKEN="$USER_TOKEN_TEXT" SOCKET_URL="$SOCKET_URL" node --input-type=module -e '
  import { WebSocket } from "ws";
  const socket = new WebSocket(process.env.SOCKET_URL, ["goforward.v1", `bearer.${process.env.TOKEN}`]);
  const fail = (why) => { console.log(why); process.exit(1); };
  setTimeout(() => fail("nothing came within 10 s"), 10_000);
  socket.on("error", (error) => fail(error.message));
  socket.on("close", (code, reason) => fail(`closed with ${code} ${reason}`));
  socket.on("message", (data) => {
    const { type, event } = JSON.parse(data);
    if (event === "connected") socket.send(JSON.stringify({ type: "broadcast", event: "hello", payload: { message: "hi" } }));
    if (type === "system" && event === "error") fail(String(data));
    if (type === "message" && event === "hello") process.exit(0);
  });
' 2>&1); then ok 'WebSocket: join, publish, receive'; else bad 'WebSocket: join, publish, receive' "$said"; fi

# Row changes, on the table test_table (the embedded PostgreSQL has one).
expect 'POST /realtime/triggers/:table'      200 'trigger setup'            POST /realtime/triggers/test_table "$ADMIN" '{}'
expect 'GET /realtime/triggers'              200 '"test_table"'             GET /realtime/triggers "$ADMIN"
expect 'POST …/subscribe'                    200 'subscribed to database'   POST "/realtime/channels/$CHANNEL/subscribe" "$ADMIN" '{"table":"test_table","events":["INSERT","UPDATE"]}'
expect 'POST …/subscribe to no table'        400 DB_SUBSCRIPTION_FAILED     POST "/realtime/channels/$CHANNEL/subscribe" "$ADMIN" '{"table":"nonexistent"}'
expect 'GET /realtime/subscriptions'         200 '"message_count"'          GET /realtime/subscriptions "$ADMIN"
expect 'DELETE /realtime/triggers/:table'    200 'trigger removed'          DELETE /realtime/triggers/test_table "$ADMIN"

expect 'DELETE /realtime/channels/:name'     200 'deleted successfully'     DELETE "/realtime/channels/$CHANNEL" "$ADMIN"
expect 'GET what was deleted'                404 CHANNEL_NOT_FOUND          GET "/realtime/channels/$CHANNEL" "$USER_TOKEN_TEXT"

printf '\n%d passed, %d failed\n' "$PASSED" "$FAILED"
[ "$FAILED" -eq 0 ]
