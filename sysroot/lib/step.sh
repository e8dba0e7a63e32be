# shellcheck shell=bash
# One line per step on stderr, everything else in a log of its own.
#
# shellcheck disable=SC2154 # log is sysroot/build's

# step NAME COMMAND...: on failure prints the tail of the log and returns 1.
step() {
    local name=$1 started=$SECONDS status=0
    shift
    # A subshell of its own, because `set -e` does not hold inside a condition.
    set +e
    (set -e; "$@") >"$log/$name.log" 2>&1 9>&-
    status=$?
    set -e
    if [[ $status -ne 0 ]]; then
        {
            echo "sysroot: $name failed, last lines of $log/$name.log:"
            tail -n 40 "$log/$name.log"
        } >&2
        return 1
    fi
    echo "sysroot: $name ($((SECONDS - started)) s)" >&2
}

die() {
    echo "sysroot: $*" >&2
    exit 1
}
