#!/usr/bin/env bash
# Runs the unit tests with the Python that the container image has, which may not be this machine's, and not as root.
# BASE_IMAGE is that of the Dockerfile; arguments are pytest's. Needs Docker, and kubectl for the tests with a real one.

set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

image=${BASE_IMAGE:-$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile)}
kubectl=$(command -v kubectl) || { echo "kubectl is needed for the unit tests" >&2; exit 1; }

# The files as they are now, those that are not committed yet, too. Tests of addresses want an IPv6 loopback; the volume
# keeps downloads for the next run.
git ls-files -z --cached --others --exclude-standard \
  | tar --create --ignore-failed-read --null --files-from=- | docker run --rm --interactive \
    --sysctl net.ipv6.conf.lo.disable_ipv6=0 \
    --volume "$kubectl:/usr/local/bin/kubectl:ro" \
    --volume api-aggregator-unit-pip:/root/.cache/pip \
    --env PIP_DISABLE_PIP_VERSION_CHECK=1 --env PIP_ROOT_USER_ACTION=ignore --env LANG=C.UTF-8 \
    "$image" sh -euc '
mkdir /src && cd /src && tar --extract --no-same-owner
python3 -m venv /opt/venv
/opt/venv/bin/python -m pip install --quiet --require-hashes -r requirements-dev.lock -r requirements-build.lock
/opt/venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
useradd --uid 1000 --create-home tester
chown -R tester /src
exec su tester -c "exec /opt/venv/bin/python -m pytest tests/unit \"\$@\"" -- sh "$@"
' sh "$@"
