#!/usr/bin/env bash
# Runs cargo build with the given arguments and shows what it does, its progress and the time left. Cargo's own progress
# bar needs a terminal; this one does not. Errors and warnings are passed through.
set -euo pipefail

every_s=${HEARTH_PROGRESS_S:-10}

# Reads cargo's bar, `Building [==>  ] 12/345: one, two`, from standard input.
show() {
    local line told=0 share left busy
    SECONDS=0
    while IFS= read -r line; do
        if [[ $line =~ Building\ \[[^]]*\]\ +([0-9]+)/([0-9]+):?\ ?(.*) ]]; then
            local done=${BASH_REMATCH[1]} total=${BASH_REMATCH[2]}
            busy=${BASH_REMATCH[3]}
            ((SECONDS >= told + every_s)) || continue
            told=$SECONDS
            share=$((100 * done / total))
            left=
            # The first crates say little about the time for the rest.
            ((share < 5)) || left=", about $(minutes $((SECONDS * (total - done) / done))) left"
            printf 'building: %d of %d parts, %d %%, %s so far%s; now %s\n' \
                "$done" "$total" "$share" "$(minutes "$SECONDS")" "$left" "${busy%%,*}"
        elif [[ ! $line =~ ^\ *(Building|Compiling|Downloading|Downloaded|Updating|Locking|Adding|Blocking)\  ]]; then
            line=${line%"${line##*[![:space:]]}"}
            [[ -z $line ]] || printf '%s\n' "$line"
        fi
    done
}

minutes() {
    if (($1 < 90)); then echo "$1 s"; else echo "$((($1 + 30) / 60)) min"; fi
}

main() {
    CARGO_TERM_PROGRESS_WHEN=always CARGO_TERM_PROGRESS_WIDTH=120 CARGO_TERM_COLOR=never \
        cargo build "$@" 2>&1 | stdbuf -oL tr '\r' '\n' | show
}

# When sourced, it only defines its functions.
[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
