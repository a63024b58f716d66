#!/bin/sh
# Installs what is missing and skips what is there: `prepare.sh python` makes .venv from requirements.lock,
# `prepare.sh broker` sees to a RabbitMQ server (RABBITRAY_RABBITMQ: to that one), `prepare.sh test-tools` to what only the tests need: Prometheus's
# promtool and Chromium (by apt, where we are root), `prepare.sh cluster-test-tools` to what hosts in namespaces
# need, which exist only where we are root. Where packages come from is the machine's own pip, uv and apt
# configuration. PYTHON chooses another interpreter than python3.
set -eu
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-python3}

say() { echo "rabbitray: $*" >&2; }
fail() { say "$*"; exit 2; }
is_root() { [ "$(id -u)" = 0 ]; }

quietly() { # the output of a long command matters only when it fails
  log=$(mktemp)
  if "$@" >"$log" 2>&1; then rm -f "$log"; else tail -n 40 "$log" >&2; rm -f "$log"; return 1; fi
}

install_with_apt() {
  is_root && command -v apt-get >/dev/null || return 1
  say "installing $* with apt"
  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get update -q || say "apt-get update failed; trying the lists that are there"
  quietly apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

# --- the Python environment

find_uv() {
  if [ -x .uv/bin/uv ]; then echo .uv/bin/uv
  elif uv --version >/dev/null 2>&1; then command -v uv
  fi
}

# uv comes through pip into a folder of its own, so that `uv pip sync` cannot remove it and a system's
# externally managed Python stays untouched. --target needs pip only, a venv needs ensurepip only.
fetch_uv() {
  say "installing uv into .uv"
  rm -rf .uv
  if "$PYTHON" -m pip --version >/dev/null 2>&1; then
    quietly "$PYTHON" -m pip install --quiet --target .uv uv && return 0
  fi
  rm -rf .uv
  "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || install_with_apt python3-venv ||
    fail "pip and ensurepip are missing for $PYTHON: install python3-pip or python3-venv (or uv), then try again"
  quietly "$PYTHON" -m venv .uv && quietly .uv/bin/python -m pip install --quiet uv
}

# uv does not read pip's configuration (files and PIP_*): hand over what says where packages come from,
# unless uv has settings of its own.
as_pip_is_configured() {
  settings=$("$PYTHON" -m pip config list 2>/dev/null || true)
  pip_says() { printf '%s\n' "$settings" | sed -nE "s/^[^.]*[.]$1='(.*)'\$/\\1/p" | tail -n 1; }
  index=$(pip_says 'index.url')
  if [ -n "$index" ] && [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then export UV_DEFAULT_INDEX="$index"; fi
  cert=$(pip_says cert)
  if [ -n "$cert" ] && [ -z "${SSL_CERT_FILE:-}" ]; then export SSL_CERT_FILE="$cert"; fi
}

prepare_python() {
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "$PYTHON is missing or older than 3.11: install Python 3.11 or later, or set PYTHON=/path/to/it"
  wanted=$(sha256sum requirements.lock | cut -d' ' -f1)
  stamp=.venv/requirements.sha256
  if [ ! -x .venv/bin/python ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then install_packages; fi
  write_launcher
}

install_packages() {
  uv=$(find_uv)
  if [ -z "$uv" ]; then
    fetch_uv || fail "uv could not be installed with pip (see above)"
    echo '*' >.uv/.gitignore
    uv=.uv/bin/uv
  fi
  as_pip_is_configured
  say "installing the packages of requirements.lock into .venv"
  [ -x .venv/bin/python ] || quietly "$uv" venv --quiet --python "$PYTHON" .venv
  quietly "$uv" pip sync --quiet --require-hashes --python .venv/bin/python requirements.lock ||
    fail "the packages of requirements.lock could not be installed (see above)"
  echo "$wanted" >"$stamp"
}

# `.venv/bin/rabbitray` works from every folder, with the code of this one.
write_launcher() {
  cat >.venv/bin/rabbitray <<'L'
#!/bin/sh
here=$(cd "$(dirname "$0")/../.." && pwd)
PYTHONPATH="$here${PYTHONPATH:+:$PYTHONPATH}" exec "$here/.venv/bin/python" -m rabbitray "$@"
L
  chmod 755 .venv/bin/rabbitray
}

# --- RabbitMQ

has_rabbitmq() {
  [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || PATH="$PATH:/usr/local/sbin:/usr/sbin" command -v rabbitmq-server >/dev/null
}

# Debian starts a server that it installs. We run private nodes only, so a policy of "no" (101) stands while
# apt works; what was there before comes back.
without_autostart() {
  policy=/usr/sbin/policy-rc.d
  kept=$(mktemp -u "$policy.XXXXXX")
  if [ -e "$policy" ]; then mv "$policy" "$kept"; fi
  restore() { rm -f "$policy"; if [ -e "$kept" ]; then mv "$kept" "$policy"; fi; }
  trap restore EXIT
  trap 'exit 130' INT TERM HUP
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  "$@"
}

is_series() { case "$1" in *[!0-9.]* | "") return 1 ;; esac; }
is_the_machines() { [ -n "$(find /usr/lib/rabbitmq/lib -maxdepth 1 -name "rabbitmq_server-$1.*" 2>/dev/null)" ]; }

prepare_broker() {
  chosen=${RABBITRAY_RABBITMQ:-}
  if is_series "$chosen" && ! is_the_machines "$chosen"; then
    cluster/deploy/install/rabbitmq.sh "$chosen" >/dev/null || exit 2
  fi
  [ -z "$chosen" ] || return 0 # a folder is looked into by whoever starts the node
  has_rabbitmq && return 0
  if is_root && command -v apt-get >/dev/null; then
    if (without_autostart install_with_apt rabbitmq-server) && has_rabbitmq; then
      [ ! -d /run/systemd/system ] || systemctl disable --quiet rabbitmq-server || true # nor at the next boot
      return 0
    fi
  fi
  fail "RabbitMQ is missing: as root, \`apt-get install --no-install-recommends rabbitmq-server\`; or set RABBITMQ_URL to a broker that runs (demo and bench); on Debian RABBITRAY_RABBITMQ=4.3 needs no root"
}

# --- what only the tests need

has_promtool() { command -v promtool >/dev/null; }
has_chromium() { command -v chromium >/dev/null || command -v chromium-browser >/dev/null; }

prepare_test_tools() {
  missing=
  has_promtool || missing="prometheus"
  has_chromium || missing="$missing chromium"
  [ -n "$missing" ] || return 0
  if is_root && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086 # a list of package names
    if (without_autostart install_with_apt $missing) && has_promtool && has_chromium; then
      case "$missing" in *prometheus*)
        [ ! -d /run/systemd/system ] || systemctl disable --quiet prometheus || true ;; # nor at the next boot
      esac
      return 0
    fi
  fi
  fail "missing for the tests: $missing (promtool, chromium): as root, \`apt-get install --no-install-recommends $missing\`"
}

# --- what tests/cluster needs for its hosts

has_hosts_tools() {
  [ -x /usr/sbin/sshd ] && command -v rsync >/dev/null && command -v ip >/dev/null &&
    [ -n "$(find /usr/lib -path '*/faketime/libfaketime.so.1' 2>/dev/null | head -n 1)" ]
}

prepare_cluster_test_tools() {
  if ! is_root; then say "hosts in namespaces need root: tests/cluster is left out"; return 0; fi
  has_hosts_tools && return 0
  if command -v apt-get >/dev/null; then
    had_sshd=$(command -v /usr/sbin/sshd || true)
    if (without_autostart install_with_apt openssh-server rsync iproute2 libfaketime) && has_hosts_tools; then
      [ -n "$had_sshd" ] || [ ! -d /run/systemd/system ] || systemctl disable --quiet ssh || true # nor at the next boot
      return 0
    fi
  fi
  fail "missing for tests/cluster: as root, \`apt-get install --no-install-recommends openssh-server rsync iproute2 libfaketime\`"
}

for part in "$@"; do
  case "$part" in
    python) prepare_python ;;
    broker) prepare_broker ;;
    test-tools) prepare_test_tools ;;
    cluster-test-tools) prepare_cluster_test_tools ;;
    *) fail "usage: prepare.sh [python] [broker] [test-tools] [cluster-test-tools]" ;;
  esac
done
