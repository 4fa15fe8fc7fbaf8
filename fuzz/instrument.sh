#!/bin/sh
# Cargo's RUSTC_WORKSPACE_WRAPPER for `cargo xtask fuzz`: our own crates count which edges they take, others' do not.
#
# Stable flags only. No sanitizer, so no runtime of one is needed. libFuzzer looks functions up at run time, which a static
# program cannot do: it is linked dynamically.
case "$*" in
    *" --target "*) ;;
    *) exec "$@" ;; # A build script.
esac
for argument; do
    shift
    case "$argument" in
        *crt-static*) ;;
        *) set -- "$@" "$argument" ;;
    esac
done
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Coverflow-checks=on -Cdebug-assertions=on
