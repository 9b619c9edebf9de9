# Which folders the scripts build in and keep tools in. Sourced by tests/run, .ci/run and the checks they call.
#
# A checkout stays clean: build output and tools live outside it, so that several checkouts share them.

# Tools that the scripts fetch: a NATS server, validators, the clients of tests/sdk.
segue_cache="${XDG_CACHE_HOME:-$HOME/.cache}/segue"

# Build output: the caller's choice, else the shared folder if somebody made one, else cargo's default.
if [[ -z "${CARGO_TARGET_DIR:-}" && -d "${XDG_CACHE_HOME:-$HOME/.cache}/segue-target" ]]; then
  export CARGO_TARGET_DIR="${XDG_CACHE_HOME:-$HOME/.cache}/segue-target"
fi

in_ci() { [[ "${CI:-}" == true ]]; }

# Where cargo puts executables of the dev profile; the checkout's root is the argument.
debug_folder() { printf '%s/debug\n' "${CARGO_TARGET_DIR:-$1/target}"; }
