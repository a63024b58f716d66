#!/bin/sh
# rabbitmq.sh SERIES [FOLDER]   SERIES: 3.10, 4.0 or 4.3
# Puts a RabbitMQ of another Debian release into a folder of its own, beside what the machine has, and prints the folder.
# Needs no root, no chroot and no container: a private apt (own lists, own cache) on the machine's own package sources,
# `dpkg -x`, and a wrapper before each Erlang program that calls the loader that came with it. About 10 s and 100 MB.
# What was downloaded when it was interrupted is not downloaded again.
set -eu

series=${1:-}
cache=${XDG_CACHE_HOME:-${HOME:-}/.cache}/rabbitray
target=${2:-$cache/rabbitmq-$series}

fail() { echo "rabbitray: no RabbitMQ $series: $*" >&2; exit 2; }

# Debian's releases that have the series, the first that does is taken.
case "$series" in
  3.10) suites="bookworm" ;;
  4.0) suites="trixie" ;;
  4.3) suites="forky sid" ;;
  *) echo "usage: rabbitmq.sh 3.10|4.0|4.3 [FOLDER]" >&2; exit 2 ;;
esac

is_there() { [ -x "$target/root/usr/lib/rabbitmq/bin/rabbitmq-server" ]; }
if is_there; then echo "$target"; exit 0; fi

[ -n "${2:-${XDG_CACHE_HOME:-${HOME:-}}}" ] || fail "HOME is not set"
command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "it comes from Debian's packages, and there is no apt here"
# shellcheck disable=SC1091 # of this machine
codename=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") || fail "it comes from Debian, and this is another system"

# Where this machine gets Debian's packages from. The release of the machine itself is among its sources.
site=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
  sed -n "s/ $codename main\$//p" | head -n 1)
[ -n "$site" ] || fail "this machine's apt has no source for $codename main"

mkdir -p "$(dirname "$target")"
work=$target.part
mkdir -p "$work/lists/partial" "$work/archives/partial"
exec 9>"$work/lock"
flock 9
if is_there; then echo "$target"; exit 0; fi # another one was at it

quietly() { "$@" >"$work/log" 2>&1; }
why() { grep -m 1 '^[EW]:' "$work/log" | cut -c 1-300 || true; }

# The machine's own settings (proxy, certificates, age of a mirror) without its hooks, then places of our own.
apt-config dump | grep -vE '^(Dir|DPkg|APT::Update|APT::Sandbox)\b' >"$work/apt.conf"
cat >>"$work/apt.conf" <<C
Dir::Etc::parts "/dev/null"; Dir::Etc::main "/dev/null"; Dir::Etc::sourceparts "/dev/null"; Dir::Etc::sourcelist "$work/sources.list";
Dir::State "$work"; Dir::State::lists "$work/lists"; Dir::State::status "/dev/null";
Dir::Cache "$work"; Dir::Cache::archives "$work/archives";
Dir::Cache::pkgcache "pkgcache.bin"; Dir::Cache::srcpkgcache "srcpkgcache.bin";
APT::Sandbox::User ""; Acquire::Languages "none";
C
export APT_CONFIG="$work/apt.conf"

look_into() { # a suite: whether it has the series
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site $1 main" >"$work/sources.list"
  quietly apt-get update --error-on=any || return 1
  version=$(apt-cache show --no-all-versions rabbitmq-server 2>/dev/null | sed -n 's/^Version: //p' | head -n 1)
  case "$version" in "$series".*) return 0 ;; *) return 1 ;; esac
}

found=
for suite in $suites; do
  if look_into "$suite"; then found=$suite; break; fi
done
[ -n "$found" ] || fail "Debian's $suites could not be had${version:+, or has $version by now}: $(why)"

packages=rabbitmq-server
for part in base crypto asn1 eldap inets mnesia os-mon parsetools public-key runtime-tools ssl syntax-tools tools xmerl eunit; do
  packages="$packages erlang-$part"
done
libraries="libc6 libgcc-s1 libstdc++6 libtinfo6 zlib1g libssl3t64 libssl3 libzstd1 libsystemd0 libcap2 libsctp1"
# shellcheck disable=SC2086 # a list of package names
packages="$packages $(apt-cache show --no-all-versions $libraries 2>/dev/null | sed -n 's/^Package: //p')"
# shellcheck disable=SC2086 # a list of package names
(cd "$work/archives" && quietly apt-get download $packages) || fail "its packages could not be had: $(why)"

rm -rf "$work/root"
for package in "$work"/archives/*.deb; do
  quietly dpkg -x "$package" "$work/root" || { rm -f "$package"; fail "${package##*/} was damaged and is removed: try again"; }
done

# Programs of another release need its loader and libraries, by the place where they will lie in the end.
loader=$(cd "$work/root" && find usr/lib -name 'ld-linux*' | head -n 1)
[ -n "$loader" ] || fail "its packages for $(dpkg --print-architecture) have no loader"
libraries=$target/root/$(dirname "$loader")
quote() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }
wrap() { # a program below root/
  mv "$work/root/$1" "$work/root/$1.elf"
  printf '#!/bin/sh\nexec %s --library-path %s --argv0 "$0" %s "$@"\n' \
    "$(quote "$target/root/$loader")" "$(quote "$libraries")" "$(quote "$target/root/$1.elf")" >"$work/root/$1"
  chmod 755 "$work/root/$1"
}
is_elf() { [ "$(head -c 4 "$1" | tail -c 3)" = ELF ]; }
cd "$work/root"
for program in usr/lib/erlang/erts-*/bin/* usr/lib/erlang/bin/* usr/lib/erlang/lib/*/priv/bin/*; do
  if [ -f "$program" ] && [ ! -L "$program" ] && is_elf "$program"; then wrap "$program"; fi
done
for start in usr/lib/erlang/bin/erl usr/lib/erlang/erts-*/bin/erl; do # know their place as /usr/lib/erlang only
  if [ -f "$start" ]; then sed -i "s|/usr/lib/erlang|$target/root/usr/lib/erlang|g" "$start"; fi
done
rm -rf usr/share usr/lib/erlang/lib/*/src
cd "$work" && rm -rf "$target" lists archives log apt.conf sources.list ./*.bin
mv "$work" "$target"
echo "rabbitray: RabbitMQ $version is in $target" >&2
echo "$target"
