#!/bin/sh
# Makes certificates for a trial of the gateway with mTLS: certificates.sh DIR [HOMES]. An authority (ca), the gateway's,
# the controller's (common name hearth), and one for each home (its id as common name). Existing files are kept.
# In production use your own authority.
set -eu
dir=$1
homes=${2:-10}
umask 077
mkdir -p "$dir"
cd "$dir"

issue() { # NAME COMMON_NAME ALTERNATIVE_NAMES EXTENDED_USAGE
    [ ! -e "$1.crt" ] || return 0
    openssl req -x509 -config /dev/null -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 \
        -CA ca.crt -CAkey ca.key -subj "/CN=$2" -keyout "$1.key" -out "$1.new" \
        -addext basicConstraints=critical,CA:FALSE -addext "subjectAltName=$3" -addext "extendedKeyUsage=$4" 2>openssl.log ||
        { cat openssl.log >&2; exit 1; }
    mv "$1.new" "$1.crt"
}

if [ ! -e ca.crt ]; then
    openssl req -x509 -config /dev/null -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
        -subj "/CN=Hearth trial authority" -keyout ca.key -out ca.new \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>openssl.log ||
        { cat openssl.log >&2; exit 1; }
    mv ca.new ca.crt
fi
issue gateway gateway DNS:gateway,DNS:localhost,IP:127.0.0.1 serverAuth
issue hearth hearth DNS:hearth clientAuth
home=1
while [ "$home" -le "$homes" ]; do
    issue "home-$home" "$home" "DNS:home-$home" clientAuth
    home=$((home + 1))
done
rm -f openssl.log
# In the Compose file this runs as root for a Hearth that does not.
[ "$(id -u)" != 0 ] || [ -z "${OWNER:-}" ] || chown -R "$OWNER" .
