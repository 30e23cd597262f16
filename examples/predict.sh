#!/bin/sh
# Asks the service about pictures: examples/predict.sh [FILE...]
# It needs curl. DIGITS_URL is the service's address.
url=${DIGITS_URL:-http://localhost:8000}
url=${url%/}
[ $# -gt 0 ] || set -- "$(dirname "$0")/seven.png"

for file; do
  # --fail-with-body: an error is printed too, and the exit status tells it
  curl --silent --show-error --fail-with-body --form "file=@$file" "$url/predict" || failed=1
  echo
done
exit "${failed:-0}"
