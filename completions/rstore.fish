# rstore's completion for fish: what there is to complete, the program says.
complete -c rstore -f -k -a '(rstore __complete fish -- (commandline -opc) (commandline -ct) 2>/dev/null)'
