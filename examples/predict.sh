#!/bin/sh
# Sends pictures to the service: examples/predict.sh [--numbers] [FILE...]
# Needs curl. DIGITS_URL is the service's address.
url=${DIGITS_URL:-http://localhost:8000}
url=${url%/}
path=predict
if [ "${1:-}" = --numbers ]; then
  path=read
  shift
fi
[ $# -gt 0 ] || set -- "$(dirname "$0")/seven.png"

for file; do
  # --fail-with-body: on an error, print the answer and exit with an error status
  curl --silent --show-error --fail-with-body --form "file=@$file" "$url/$path" || failed=1
  echo
done
exit "${failed:-0}"
