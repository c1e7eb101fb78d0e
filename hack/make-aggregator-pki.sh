#!/usr/bin/env bash
# Makes a small development PKI with openssl alone. Run with --help for what it writes.

set -euo pipefail
umask 077

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
dir=$root/data/grafana-aggregator
days=365
force=no

server_names=(
  DNS:localhost
  IP:127.0.0.1
  DNS:example-apiserver.grafana.svc
  DNS:v0alpha1.example.grafana.app.default.svc
  DNS:example-service
)

usage() {
  cat <<USAGE
usage: $(basename -- "$0") [--days N] [--force]

Writes, into data/grafana-aggregator of this repository:
  ca.crt ca.key          the authority that signs the other two
  server.crt server.key  serving certificate of the example API server
  client.crt client.key  client certificate of the aggregator, CN=system:masters

Running it again keeps what is still good. Server and client certificates are made again when they
are missing, damaged, within 30 days of their end, or not signed by ca.crt. An authority that exists
is kept, whatever its state; when it cannot be used, the script says so and stops.

  --days N   lifetime of server and client certificates (default: $days; at most 3650)
  --force    make everything anew, the authority included
  -h, --help
USAGE
}

fail() {
  printf '%s: %s\n' "$(basename -- "$0")" "$1" >&2
  exit "${2:-1}"
}

while (($#)); do
  case $1 in
    --days)
      [[ ${2-} =~ ^[1-9][0-9]{0,3}$ ]] && (($2 <= 3650)) || fail "--days wants a number from 1 to 3650" 2
      days=$2
      shift 2
      ;;
    --force)
      force=yes
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      usage >&2
      fail "unknown argument: $1" 2
      ;;
  esac
done

command -v openssl >/dev/null || fail "openssl is not installed"

(umask 022 && mkdir -p -- "$dir")
work=$(mktemp -d "$dir/.new.XXXXXX")
trap 'rm -rf -- "$work"' EXIT

# openssl's progress output says nothing of use; its errors do.
quiet() {
  openssl "$@" 2>"$work/errors" || {
    cat -- "$work/errors" >&2
    fail "openssl $1 failed"
  }
}

new_key() {
  quiet genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/$1.key"
}

# The extensions are given in full: openssl's own defaults differ between versions, and a strict verifier
# (Python 3.13 and later) refuses an authority without keyUsage or a critical basicConstraints.
write_config() {
  local common_name=$1
  shift
  {
    printf '[req]\nprompt = no\ndistinguished_name = subject\n\n[subject]\nCN = %s\n\n[extensions]\n' "$common_name"
    printf '%s\n' "$@"
  } >"$work/openssl.cnf"
}

install_pair() {
  if [[ -f $work/$1.key ]]; then
    chmod 0600 "$work/$1.key"
    mv -f -- "$work/$1.key" "$dir/$1.key"
  fi
  chmod 0644 "$work/$1.crt"
  mv -f -- "$work/$1.crt" "$dir/$1.crt"
  printf 'made  %s.crt %s.key (%s)\n' "$1" "$1" "$2"
}

key_fits() {
  local of_certificate of_key
  of_certificate=$(openssl x509 -in "$1.crt" -noout -pubkey 2>/dev/null) || return 1
  of_key=$(openssl pkey -in "$1.key" -pubout -passin pass: 2>/dev/null) || return 1
  [[ $of_certificate == "$of_key" ]]
}

make_authority() {
  local key=$dir/ca.key
  if [[ $1 != "certificate missing" ]]; then
    new_key ca
    key=$work/ca.key
  fi
  write_config "API aggregator development CA" \
    "basicConstraints = critical, CA:TRUE, pathlen:0" \
    "keyUsage = critical, keyCertSign, cRLSign, digitalSignature" \
    "subjectKeyIdentifier = hash"
  quiet req -new -x509 -sha256 -days 3650 -key "$key" -config "$work/openssl.cnf" -extensions extensions \
    -out "$work/ca.crt"
  install_pair ca "$1"
}

ensure_authority() {
  if [[ $force == yes ]]; then
    make_authority forced
  elif [[ ! -e $dir/ca.key && ! -e $dir/ca.crt ]]; then
    make_authority missing
  elif [[ ! -e $dir/ca.crt ]]; then
    make_authority "certificate missing"
  elif [[ ! -e $dir/ca.key ]]; then
    fail "$dir/ca.key is missing while ca.crt is there: put it back, or use --force to make a new authority"
  elif ! key_fits "$dir/ca"; then
    fail "$dir/ca.key does not belong to ca.crt: put the right one back, or use --force to make a new authority"
  elif ! openssl x509 -in "$dir/ca.crt" -noout -checkend 2592000 >/dev/null; then
    fail "$dir/ca.crt has expired or will within 30 days: use --force to make a new authority"
  else
    printf 'kept  ca.crt ca.key\n'
  fi
}

# names_fit CERTIFICATE NAME...: whether the certificate is for these names, in this order.
names_fit() {
  local certificate=$1 found wanted
  shift
  found=$(openssl x509 -in "$certificate" -noout -text | grep -A1 'Subject Alternative Name' | tail -n 1 | tr -d ' ')
  wanted=$(IFS=, && printf '%s' "$*")
  [[ ${found//IPAddress:/IP:} == "$wanted" ]]
}

# Prints why a pair has to be made, or nothing.
problem_of() {
  local pair=$dir/$1
  if [[ $force == yes ]]; then
    printf 'forced'
  elif [[ ! -e $pair.crt || ! -e $pair.key ]]; then
    printf 'missing'
  elif ! key_fits "$pair"; then
    printf 'key and certificate do not belong together'
  elif ! openssl x509 -in "$pair.crt" -noout -checkend 2592000 >/dev/null && ((days > 30)); then
    printf 'expires soon'
  elif ! openssl verify -CAfile "$dir/ca.crt" "$pair.crt" >/dev/null 2>&1; then
    printf 'not valid under ca.crt'
  elif [[ $1 == server ]] && ! names_fit "$pair.crt" "${server_names[@]}"; then
    printf 'names changed'
  fi
}

# ensure_pair NAME COMMON_NAME EXTENSION...
ensure_pair() {
  local name=$1 common_name=$2 problem
  shift 2
  problem=$(problem_of "$name")
  if [[ -z $problem ]]; then
    printf 'kept  %s.crt %s.key\n' "$name" "$name"
    return
  fi
  new_key "$name"
  write_config "$common_name" \
    "basicConstraints = critical, CA:FALSE" \
    "keyUsage = critical, digitalSignature" \
    "subjectKeyIdentifier = hash" \
    "authorityKeyIdentifier = keyid:always" \
    "$@"
  quiet req -new -sha256 -key "$work/$name.key" -config "$work/openssl.cnf" -out "$work/$name.csr"
  quiet x509 -req -sha256 -days "$days" -in "$work/$name.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" \
    -set_serial "0x$(openssl rand -hex 16)" -extfile "$work/openssl.cnf" -extensions extensions -out "$work/$name.crt"
  install_pair "$name" "$problem"
}

printf 'development PKI in %s\n' "$dir"
ensure_authority
ensure_pair server example-apiserver \
  "extendedKeyUsage = serverAuth" \
  "subjectAltName = $(IFS=, && printf '%s' "${server_names[*]}")"
ensure_pair client system:masters \
  "extendedKeyUsage = clientAuth"
