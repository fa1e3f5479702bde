#!/bin/sh
# Puts the limits of the service into nginx.conf, so that each is said once, and runs NGINX in place of itself.
set -eu
folder=${0%/*}
body=${HUBEL_MAX_BODY_BYTES:-33554432}
patience=$((${HUBEL_DEADLINE_MS:-10000} * 2 / 1000 + 5)) # the body and the answer have a deadline each
idle=$((${HUBEL_KEEP_ALIVE_SECONDS:-75} * 4 / 5))
sed -e "s/@MAX_BODY_BYTES@/$body/g" -e "s/@PATIENCE_SECONDS@/$patience/g" -e "s/@IDLE_SECONDS@/$((idle > 0 ? idle : 1))/g" \
  "$folder/nginx.conf" >/tmp/nginx.conf
exec nginx -e stderr -c /tmp/nginx.conf -g 'daemon off;'
