# rstore's completion for bash: what there is to complete, the program says.
_rstore() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <("$1" __complete bash "$COMP_WORDBREAKS" "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
# The program says itself where a blank follows.
complete -F _rstore -o nospace -o bashdefault rstore
