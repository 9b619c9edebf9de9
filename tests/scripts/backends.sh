# Starts a PostgreSQL, a NATS and an SMTP server for one run, each in a temporary folder on a free port of the loopback, and stops
# them. Sourced after tools.sh, which sets postgres_bin, nats_server and smtp_python.

backend_pids=()
backends_folder=""

# A port nobody listens on, below the range from which the system hands out ports of its own accord.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

# until_ready WHAT PID LOG COMMAND…: waits for a condition, for the process to die, or for 60 seconds to pass.
until_ready() {
  local what="$1" pid="$2" log="$3" end=$((SECONDS + 60))
  shift 3
  until "$@" >/dev/null 2>&1; do
    if ! kill -0 "$pid" 2>/dev/null || ((SECONDS > end)); then
      say "error: $what did not start. Its log ends with:"
      tail -n 20 "$log" | sed 's/^/  | /' >&2
      return 1
    fi
    sleep 0.1
  done
}

make_backends_folder() {
  backends_folder="$(mktemp -d "${TMPDIR:-/tmp}/segue-backends.XXXXXX")"
  # The user that PostgreSQL runs as must be able to get to its own folder below.
  chmod 711 "$backends_folder"
}

# PostgreSQL refuses to run as root. Sets as_postgres to what goes before its commands.
choose_postgres_user() {
  as_postgres=()
  [[ "$(id -u)" != 0 ]] && return
  local user=nobody
  id postgres >/dev/null 2>&1 && user=postgres
  as_postgres=(setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups --)
  chown "$user" "$1"
}

# Exports SEGUE_TEST_POSTGRES_URL. Data reaches the disk as in production (fsync on), or crash tests would prove nothing.
start_postgres() {
  local folder="$backends_folder/postgres" log="$backends_folder/postgres.log" attempt port
  mkdir -p "$folder"
  choose_postgres_user "$folder"
  (cd "$folder" && quietly "make a PostgreSQL database" "${as_postgres[@]}" "$postgres_bin/initdb" \
    --pgdata="$folder/data" --username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync) || return 1
  for attempt in 1 2 3; do
    port="$(free_port)"
    (cd "$folder" && exec "${as_postgres[@]}" "$postgres_bin/postgres" -D "$folder/data" -k "$folder" -h 127.0.0.1 -p "$port" \
      -c fsync=on -c max_connections=400 -c shared_buffers=128MB -c log_min_messages=fatal) >"$log" 2>&1 </dev/null &
    local pid=$!
    if until_ready PostgreSQL "$pid" "$log" "$postgres_bin/pg_isready" -q -h 127.0.0.1 -p "$port"; then
      backend_pids+=("$pid")
      export SEGUE_TEST_POSTGRES_URL="postgres://postgres@127.0.0.1:$port/postgres"
      return 0
    fi
    # Somebody may have taken the port meanwhile.
    grep -q 'could not bind' "$log" || return 1
  done
  return 1
}

# Exports SEGUE_TEST_NATS_URL. An answer means synced to disk, as the product requires.
start_nats() {
  local folder="$backends_folder/nats" log="$backends_folder/nats.log"
  mkdir -p "$folder"
  # A payload of 8 MiB: one message is a whole batch of events.
  cat >"$folder/server.conf" <<CONF
listen: "127.0.0.1:-1"
ports_file_dir: "$folder"
max_payload: 8388608
jetstream { store_dir: "$folder/store", sync_interval: always }
CONF
  "$nats_server" -c "$folder/server.conf" >"$log" 2>&1 </dev/null &
  local pid=$!
  backend_pids+=("$pid")
  until_ready NATS "$pid" "$log" nats_port "$folder" || return 1
  export SEGUE_TEST_NATS_URL="nats://127.0.0.1:$(nats_port "$folder")"
}

# The server picks the port and writes it down.
nats_port() { cat "$1"/*.ports | grep -oE 'nats://127\.0\.0\.1:[0-9]+' | head -1 | grep -oE '[0-9]+$'; }

# Exports SEGUE_TEST_SMTP_URL, and SEGUE_TEST_SMTP_FOLDER, where every mail is written down.
start_smtp() {
  local folder="$backends_folder/smtp" log="$backends_folder/smtp.log" port
  mkdir -p "$folder"
  port="$(free_port)"
  "$smtp_python" "$(dirname "${BASH_SOURCE[0]}")/smtp_sink.py" "$folder" "$port" >"$log" 2>&1 </dev/null &
  local pid=$!
  until_ready "the SMTP server" "$pid" "$log" is_open "$port" || return 1
  backend_pids+=("$pid")
  export SEGUE_TEST_SMTP_URL="smtp://127.0.0.1:$port" SEGUE_TEST_SMTP_FOLDER="$folder"
}

is_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

start_backends() {
  ensure_postgres && ensure_nats && ensure_smtp || return 1
  make_backends_folder
  start_postgres && start_nats && start_smtp || return 1
  # From here on a test that finds no backend fails instead of leaving it out.
  export SEGUE_TEST_BACKENDS=required
}

stop_backends() {
  local pid
  for pid in "${backend_pids[@]}"; do
    # PostgreSQL: fast shutdown. NATS: the same as TERM.
    kill -INT "$pid" 2>/dev/null || true
  done
  for pid in "${backend_pids[@]}"; do
    wait "$pid" 2>/dev/null || true
  done
  backend_pids=()
  [[ -n "$backends_folder" ]] && rm -rf "$backends_folder"
  backends_folder=""
}
