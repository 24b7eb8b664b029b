#!/usr/bin/env bash
# Makes sure of what the tests and benchmarks use beside Python: a JDK (17 or newer), Maven, kcat, etcd, PostgreSQL,
# systemd's programs, Apache Kafka's jars, our compiled Java clients; where there is Go, a newer etcd as well; as root, what a
# container image of ours holds; where there is Python 3.12, the FOCUS validator. Says loudly what this machine cannot have; never fails for it, since the tests that need
# it skip by themselves. Done in well under a second when all is there.
#
#   tools/install_test_deps.sh [--no-apt]      --no-apt: change nothing outside this directory
#
# Jars go to .cache/kafka/{broker,tools,tiered}, classes to .cache/kafka/classes, etcd to .cache/etcd, the validator to .cache/focus. Remove .cache to
# start afresh.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
cache=$root/.cache/kafka
peer=$root/tools/kafka_peer
java_sources=$root/tests/e2e/java
etcd_version=v3.7.3
focus_version=2.2.1
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.6.1
missing=()

say() { printf 'install_test_deps: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

have_postgres() {  # Debian does not put the server on the path
  have initdb || compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null
}

java_is_new_enough() {  # a JDK of 17 or newer; its release file says so without starting a JVM
  have java && have javac || return 1
  local release version
  release=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")/release
  version=$(sed -nE 's/^JAVA_VERSION="([0-9]+).*/\1/p' "$release" 2>/dev/null)
  [ -n "$version" ] || version=$(javac -version 2>&1 | sed -nE 's/^javac ([0-9]+).*/\1/p')
  [ "${version:-0}" -ge 17 ]
}

as_root=()
apt_is_usable() {
  [ "${allow_apt:-1}" = 1 ] && have apt-get || return 1
  [ "$(id -u)" = 0 ] && return 0
  have sudo && sudo -n true 2>/dev/null && as_root=(sudo -n)
}

apt_install() {  # apt_install PACKAGE...: the first try may meet package lists of another day; starts no service
  apt_is_usable || return 1
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq -o Dpkg::Use-Pty=0)
  say "installing $*"
  "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null 2>&1 && return 0
  "${apt[@]}" update >/dev/null 2>&1
  "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null
}

ensure_programs() {
  java_is_new_enough || apt_install openjdk-17-jdk-headless || apt_install default-jdk-headless || true
  java_is_new_enough || missing+=("a JDK, 17 or newer: every test marked java, and the Kafka side of the benchmarks")
  have mvn || apt_install maven || missing+=("maven: Kafka's jars cannot be resolved")
  have kcat || apt_install kcat || missing+=("kcat: every test marked kcat")
  have systemd-analyze || apt_install systemd || missing+=("systemd: whether the units in deploy/systemd are right")
  have etcd || apt_install etcd-server || missing+=("etcd: what the tests show of the metadata store in it")
  have_postgres || apt_install postgresql || missing+=("PostgreSQL: the example that rebuilds a table")
}

ensure_jars() {
  local stamp part want
  want=$(cksum < "$peer/pom.xml")
  stamp=$cache/.resolved
  [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return 0
  have mvn && java_is_new_enough || return 1
  say "resolving Apache Kafka's jars (once, about 150 MB)"
  for part in broker tools tiered; do
    rm -rf "${cache:?}/$part"
    mvn -q -B -Dstyle.color=never -f "$peer/pom.xml" -P "$part" "$plugin:copy-dependencies" \
      -DincludeScope=runtime -DoutputDirectory="$cache/$part" >&2 || return 1
  done
  # The folder-backed storage of 4.3 wants a logging class where 4.4 no longer has it. Only that class may lie
  # beside it: its class loader prefers what it finds here to the broker's own.
  python3 - "$cache" <<'PY' || return 1
import pathlib, sys, zipfile
cache = pathlib.Path(sys.argv[1])
(clients,) = (cache / "tools").glob("kafka-clients-*.jar")
with zipfile.ZipFile(clients) as old, zipfile.ZipFile(cache / "tiered" / "log-context.jar", "w") as new:
    for name in old.namelist():
        if name.startswith("org/apache/kafka/common/utils/LogContext"):
            new.writestr(name, old.read(name))
PY
  printf '%s' "$want" > "$stamp"
}

ensure_classes() {
  compgen -G "$java_sources/*.java" >/dev/null || return 0
  [ -e "$cache/.resolved" ] || return 1
  local stamp=$cache/classes/.compiled
  [ -e "$stamp" ] && [ "$cache/.resolved" -ot "$stamp" ] &&
    [ -z "$(find "$java_sources" -name '*.java' -newer "$stamp" -print -quit)" ] && return 0
  rm -rf "$cache/classes"
  mkdir -p "$cache/classes"
  javac -Xlint:all,-classfile,-processing -Werror -proc:none -d "$cache/classes" -cp "$cache/broker/*" \
    "$java_sources"/*.java >&2 && touch "$stamp"
}

ensure_newer_etcd() {  # nothing is missing without it: the system's is tested as well
  local build=$root/.cache/etcd
  have go && [ "$(cat "$build/.version" 2>/dev/null)" != "$etcd_version" ] || return 0
  say "building etcd $etcd_version (once, a minute or two)"
  rm -rf "$build" && mkdir -p "$build" && cp tools/etcd_server/main.go "$build/" || return 0
  (
    cd "$build" && export CGO_ENABLED=0 GOFLAGS=-mod=mod &&
      go mod init tierlog/etcd && timeout 300 go get "go.etcd.io/etcd/server/v3@$etcd_version" &&
      go build -buildvcs=false -trimpath -ldflags='-s -w' -o etcd . && echo "$etcd_version" > .version
  ) >"$build/build.log" 2>&1 || say "it cannot be built here; see .cache/etcd/build.log"
}

python_of_the_validator() {  # the FOCUS validator runs on Python 3.12 only
  local found
  for found in "$(command -v python3.12)" "$(compgen -G "$(pyenv root 2>/dev/null)/versions/3.12*/bin/python3.12" | tail -1)"; do
    [ -n "$found" ] && "$found" -c 'import venv' 2>/dev/null && printf '%s' "$found" && return 0
  done
  return 1
}

ensure_focus_validator() {
  local build=$root/.cache/focus python
  [ "$(cat "$build/.version" 2>/dev/null)" != "$focus_version" ] || return 0
  python=$(python_of_the_validator) || return 1
  say "installing the FOCUS validator (once, a minute)"
  rm -rf "$build" && "$python" -m venv "$build" &&
    "$build/bin/pip" install -q --disable-pip-version-check "focus-validator==$focus_version" 'pyarrow<22' >&2 &&
    echo "$focus_version" > "$build/.version"
}

ensure_image_layer() {  # what the container image has beside tierlog; a minute or two, once for each pyproject.toml
  [ -x .venv/bin/python ] && [ "$(id -u)" = 0 ] || return 0
  [ .cache/container -nt pyproject.toml ] && [ .cache/container -nt deploy/container/Containerfile ] && return 0
  say "installing what the container image has (once, a minute or two)"
  mkdir -p .cache/container && .venv/bin/python -m tests.servers.container_root >&2 && touch .cache/container
}

case ${1:-} in
  "") allow_apt=1 ;;
  --no-apt) allow_apt=0 ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
mkdir -p "$cache"
ensure_programs
ensure_jars || missing+=("Apache Kafka's jars: every test marked java, and the Kafka side of the benchmarks")
ensure_newer_etcd
ensure_focus_validator || missing+=("Python 3.12 for the FOCUS validator: whether it passes the exported bill")
ensure_image_layer || missing+=("the container image, whose steps fail here: tests/e2e/test_deploy.py")
ensure_classes || missing+=("our Java clients, which do not compile here: tests/e2e/test_java.py")

if [ ${#missing[@]} -gt 0 ]; then
  say "=================================================================================="
  say "THIS MACHINE LACKS THE FOLLOWING; WHAT NEEDS IT WILL BE SKIPPED:"
  for each in "${missing[@]}"; do say "  * $each"; done
  say "=================================================================================="
fi
