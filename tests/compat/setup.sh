#!/usr/bin/env bash
# Installs what the foreign-client checks need, once: Debian packages, a Python environment, Kafka's jars, other clients, and
# librdkafka with its tests. Everything but the Debian packages goes to ~/.cache/millstream/foreign (FOREIGN_CACHE). Safe to repeat.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${FOREIGN_CACHE:-$HOME/.cache/millstream/foreign}
mkdir -p "$cache"

# done_for NAME INPUT...: whether NAME was made from exactly these inputs (a file's content, or a plain word).
stamp() { local name=$1; shift; for input; do if [ -f "$input" ]; then cat "$input"; else echo "$input"; fi; done | sha256sum >"$cache/$name.now"; }
done_for() { stamp "$@"; cmp -s "$cache/$1.now" "$cache/$1.done"; }
mark() { mv "$cache/$1.now" "$cache/$1.done"; }

packages() {
  local missing=()
  command -v kcat >/dev/null || missing+=(kcat)
  command -v javac >/dev/null || missing+=(default-jdk-headless)
  command -v mvn >/dev/null || missing+=(maven)
  command -v g++ >/dev/null || missing+=(g++)
  command -v make >/dev/null || missing+=(make)
  python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  [ -e /usr/include/zlib.h ] || missing+=(zlib1g-dev)
  [ -e /usr/include/openssl/ssl.h ] || missing+=(libssl-dev)
  # librdkafka's transaction and statistics tests read JSON with it.
  [ -e /usr/include/rapidjson/document.h ] || missing+=(rapidjson-dev)
  # The corpus is apt's package list, which a fresh machine has yet to fetch.
  if [ ${#missing[@]} -gt 0 ] || [ "$(apt-cache dumpavail | wc -c)" -lt 50000000 ]; then apt-get update -qq; fi
  if [ ${#missing[@]} -gt 0 ]; then DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null; fi
}

python_environment() {
  done_for venv "$here/requirements.txt" && return
  rm -rf "$cache/venv"
  python3 -m venv "$cache/venv"
  "$cache/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  mark venv
}

java_programs() {
  if ! done_for jars "$here/java/pom.xml"; then
    rm -rf "$cache/jars"
    mvn --quiet --batch-mode -Dstyle.color=never -f "$here/java/pom.xml" dependency:copy-dependencies \
      -DoutputDirectory="$cache/jars" -DincludeScope=runtime
    mark jars
  fi
  local programs=("$here"/java/{TextClient,WordCount}.java)
  if ! done_for classes "$here/java/pom.xml" "${programs[@]}"; then
    rm -rf "$cache/classes"
    javac -cp "$cache/jars/*" -d "$cache/classes" "${programs[@]}"
    mark classes
  fi
  # Our program of cases, with the newest client and with an old one.
  java_suite new 4.4.0 NewCases TransactionAdminCases
  java_suite old 2.8.2 OldCases
}

# java_suite NAME VERSION CASES...: the client's jars and the program compiled against them, with the cases that only it has.
java_suite() {
  local name=$1 version=$2 sources only
  sources=("$here"/java/{Suite,Bed,Member,GroupCases,ClassicCases,AdminCases,TransactionCases}.java)
  for only in "${@:3}"; do sources+=("$here/java/$only.java"); done
  if ! done_for "java-$name-jars" "$here/java/clients.xml" "$version"; then
    rm -rf "$cache/java-$name"
    mvn --quiet --batch-mode -Dstyle.color=never -f "$here/java/clients.xml" -Dclients="$version" \
      dependency:copy-dependencies -DoutputDirectory="$cache/java-$name/jars" -DincludeScope=runtime
    mark "java-$name-jars"
  fi
  if ! done_for "java-$name-classes" "$version" "${sources[@]}"; then
    rm -rf "$cache/java-$name/classes"
    javac -nowarn -Xlint:none -cp "$cache/java-$name/jars/*" -d "$cache/java-$name/classes" "${sources[@]}"
    mark "java-$name-classes"
  fi
}

# Clients that are checked in passing, where the machine has their languages; it says so where it has not.
other_clients() {
  if ! command -v go >/dev/null; then
    echo "setup: no Go here, so franz-go is left out"
  elif ! done_for go "$here/go/go.mod" "$here/go/main.go" "$here/go/chaos/main.go"; then
    (cd "$here/go" && GOFLAGS=-mod=readonly go build -o "$cache/franz-go" .)
    (cd "$here/go" && GOFLAGS=-mod=readonly go build -o "$cache/franz-go-chaos" ./chaos)
    (cd "$here/go" && GOFLAGS=-mod=readonly go test -c -o "$cache/kgo.test" github.com/twmb/franz-go/pkg/kgo)
    mark go
  fi
  if ! command -v npm >/dev/null; then
    echo "setup: no npm here, so KafkaJS is left out"
  elif ! done_for js "$here/js/package.json"; then
    mkdir -p "$cache/js"
    cp "$here/js/package.json" "$cache/js/"
    (cd "$cache/js" && npm install --silent --no-audit --no-fund --no-package-lock)
    mark js
  fi
}

# The crate rdkafka-sys, which our benchmark uses, ships librdkafka's whole tree. Only the library and its tests are built, and
# not optimised: what is tested is the broker.
librdkafka_tests() {
  local version sources
  version=$(sed -n '/^name = "rdkafka-sys"$/{n;s/version = "\(.*\)"/\1/p}' "$here/../../Cargo.lock")
  done_for librdkafka "$version" && return
  cargo fetch --quiet --locked --manifest-path "$here/../../Cargo.toml"
  sources=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"rdkafka-sys-$version/librdkafka")
  rm -rf "$cache/librdkafka"
  cp -r "$sources" "$cache/librdkafka"
  (
    cd "$cache/librdkafka"
    ./configure --disable-curl --disable-sasl --disable-optimization --disable-debug-symbols
    make -j"$(nproc)" libs
    make -j"$(nproc)" -C tests build
  ) >"$cache/librdkafka.log" 2>&1 || { tail -40 "$cache/librdkafka.log"; return 1; }
  mark librdkafka
}

# One of those tests lets a Java program of librdkafka's write the transactions that it reads.
librdkafka_helper() {
  local tests="$cache/librdkafka/tests/java"
  done_for librdkafka-helper "$here/java/pom.xml" "$cache/librdkafka.done" && return
  javac -nowarn -cp "$cache/jars/*" -d "$tests" "$tests/TransactionProducerCli.java"
  # The test has make build all of librdkafka's Java programs first. The others are of no use here, and one needs an older Kafka.
  touch "$tests"/{Murmur2Cli,IncrementalRebalanceCli}.class
  mark librdkafka-helper
}

for step in ${*:-packages python_environment java_programs other_clients librdkafka_tests librdkafka_helper}; do
  began=$SECONDS
  "$step"
  echo "setup: $step $((SECONDS - began)) s"
done
