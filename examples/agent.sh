#!/usr/bin/env bash
# An agent outside Prefect, in shell: it counts the words of a text, line by line.
#
#     export PREFECT_EXECUTIONS_URL=http://127.0.0.1:4300 PREFECT_EXECUTIONS_API_KEY=pxk_…
#     examples/agent.sh FILE [exec_…]
#
# It needs curl and sed. Kill it whenever you like, and start it again with the id that it printed.
set -euo pipefail

file=$1
url="$PREFECT_EXECUTIONS_URL/v1/execution"
key="words at $(date +%s) by $$"  # with it, creating may be repeated

call() { # METHOD PATH [JSON]: prints the answer; its HTTP status is in $code
  code=$(curl -sS --retry 5 --retry-connrefused -o answer.$$ -w '%{http_code}' -X "$1" "$url$2" \
    -H "Authorization: Bearer ${PREFECT_EXECUTIONS_API_KEY:-}" -H "Idempotency-Key: $key" \
    -H 'content-type: application/json' ${3:+-d "$3"})
  answer=$(cat answer.$$)
  rm -f answer.$$
}
number() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" <<<"$answer"; }
text() { sed -n "s/.*\"$1\":\"\([a-z0-9_]*\)\".*/\1/p" <<<"$answer"; }
ended() { echo "$id: $1"; exit "$2"; }

if [ $# -gt 1 ]; then
  id=$2
  call POST "/$id/attempt"
  [ "$code" = 201 ] || ended "$answer" 1
else
  call POST "" '{"name": "words", "state": {"line": 0, "words": 0}}'
  [ "$code" = 201 ] || { echo "$answer"; exit 1; }
  id=$(sed -n 's/.*"id":"\(exec_[0-9a-f]*\)".*/\1/p' <<<"$answer")
fi
attempt=$(number attempt) done=$(number line) words=$(number words)
echo "$id: attempt $attempt, from line $done"

line=0
while IFS= read -r text_of_line; do
  line=$((line + 1))
  [ "$line" -le "$done" ] && continue
  words=$((words + $(wc -w <<<"$text_of_line")))
  state="{\"line\": $line, \"words\": $words}"
  call PUT "/$id/checkpoint" "{\"state\": $state, \"label\": \"line $line\", \"attempt\": $attempt}"
  [ "$code" = 201 ] || ended "$(text code)" 1
  [ "$(text status)" = running ] || ended "$(text status) after line $line" 0
done <"$file"

call POST "/$id/complete" "{\"result\": $words, \"attempt\": $attempt}"
[ "$code" = 202 ] || ended "$answer" 1
ended "$words words" 0
