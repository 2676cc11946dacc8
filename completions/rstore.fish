# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_rstore_global_optspecs
    string join \n root= no-progress h/help V/version
end

function __fish_rstore_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_rstore_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_rstore_using_subcommand
    set -l cmd (__fish_rstore_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c rstore -n "__fish_rstore_needs_command" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_needs_command" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_needs_command" -s h -l help -d 'Print help'
complete -c rstore -n "__fish_rstore_needs_command" -s V -l version -d 'Print version'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "build" -d 'Build an image from a Dockerfile'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "pull" -d 'Pull images from registries'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "push" -d 'Push an image to a registry'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "copy" -d 'Copy an image between store, registries, archives and layouts'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "login" -d 'Log in to a registry'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "logout" -d 'Forget the login to a registry'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "import" -d 'Make an image of a root file system'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "load" -d 'Take images in from an archive or a layout'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "save" -d 'Write images to an archive or a layout'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "export" -d 'Write the root file system of an image to a tar archive'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "images" -d 'List images'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "history" -d 'Show the steps that made an image'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "inspect" -d 'Show all that is known of images, as JSON'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "graph" -d 'Show what descends from what'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "layers" -d 'List layers'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "why" -d 'Tell what keeps an image, a layer or a blob'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "df" -d 'Show what the disk is used for, and what a prune would give back'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "ps" -d 'List intermediate containers, running and left over'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "log" -d 'Show what builds, tags and prunes did'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "tag" -d 'Give an image another name'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "untag" -d 'Take names away, and nothing else'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "rmi" -d 'Remove images: their names, and what only they needed'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "pin" -d 'Keep an image without a name'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "unpin" -d 'No longer keep an image for its pin'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "prune" -d 'Remove what nothing needs'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "fsck" -d 'Check that the store is whole, and repair it'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "shell" -d 'Open a shell in an image, or in the container that a failed step left'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "completions" -d 'Print a shell\'s completion script'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "version" -d 'Show the version'
complete -c rstore -n "__fish_rstore_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rstore -n "__fish_rstore_using_subcommand build" -s f -l file -d 'The Dockerfile, in a context from elsewhere its path there; - reads it from stdin [default: CONTEXT/Dockerfile]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand build" -l build-context -d 'Another tree or image, for FROM, --from and mounts, in place of what has that name' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -s t -l tag -d 'A name for the image; may be given many times' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l target -d 'The stage to build, by name or number [default: the last]' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l build-arg -d 'A value for an ARG; without =VALUE it is taken from the environment' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l label -d 'A label for the image' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l platform -d 'The platform to build for; several, with commas, give an index [default: this machine\'s]' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l no-cache-filter -d 'Run every step of a stage, whatever the cache has' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l cache-from -d 'Take steps from a cache directory too: type=local,src=DIR[,tag=TAG|digest=DIGEST]' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l cache-to -d 'Write the cache of this build to a directory: type=local,dest=DIR[,mode=min|max][,tag=TAG]' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l network -d 'The network that RUN sees' -r -f -a "host\t'The machine\'s own'
none\t'None but the loopback device'"
complete -c rstore -n "__fish_rstore_using_subcommand build" -l compression -d 'How layers are compressed [default: gzip]' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -s o -l output -d 'Also write the result: type=local|tar|oci|docker,dest=PATH; DIR is type=local, - is type=tar to stdout' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l annotation -d 'An annotation of the manifest; manifest-descriptor:KEY=VALUE is one in the index of an output' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l metadata-file -d 'Write what is known of the result to a file, as JSON' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand build" -l pull -d 'When base images are pulled: always (the same as --pull alone), newer, missing, never [default: missing]' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l jobs -d 'How many steps may run at the same time [default: one a processor]' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l rm -d 'Remove a step\'s container; =false keeps that of a failed step' -r -f -a "true\t''
false\t''"
complete -c rstore -n "__fish_rstore_using_subcommand build" -l iidfile -d 'Write the image\'s ID to a file' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand build" -l call -d 'What to do: build, check, or check,format=json' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l progress -d 'How the build is shown' -r -f -a "auto\t'tty on a terminal, else plain'
tty\t'Running steps redrawn in place'
plain\t'One line after the other'
classic\t'The classic docker builder\'s narration'
rawjson\t'One JSON object a line, for programs'
quiet\t'Nothing but the image\'s ID'"
complete -c rstore -n "__fish_rstore_using_subcommand build" -l timestamp -d 'The time, in seconds since the epoch, that the image and its files say they were made at' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l add-host -d 'A line for /etc/hosts during RUN' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l shm-size -d 'The size of /dev/shm during RUN' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l secret -d 'A secret for RUN --mount=type=secret: a file, or a variable of the environment' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l ssh -d 'An SSH agent for RUN --mount=type=ssh [default of SOCKET: $SSH_AUTH_SOCK]' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l allow -d 'What the file may ask for although it is not safe: security.insecure, network.host' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l ulimit -d 'A resource limit during RUN' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l tls-verify -d 'Whether registries must prove by a certificate who they are; =false also lets them speak HTTP' -r -f -a "true\t''
false\t''"
complete -c rstore -n "__fish_rstore_using_subcommand build" -l cert-dir -d 'A directory of certificates: *.crt are authorities, *.cert and *.key are ours [default: certs.d/HOST of /etc/docker, /etc/containers]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand build" -l stall-timeout -d 'How long a registry may send next to nothing before it is asked anew' -r
complete -c rstore -n "__fish_rstore_using_subcommand build" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand build" -l no-cache -d 'Run every step, whatever the cache has'
complete -c rstore -n "__fish_rstore_using_subcommand build" -l squash -d 'Make one layer of all that the build adds to its base'
complete -c rstore -n "__fish_rstore_using_subcommand build" -l force-rm -d 'Remove a step\'s container even where it failed, --rm=false notwithstanding'
complete -c rstore -n "__fish_rstore_using_subcommand build" -s q -l quiet -d 'Print nothing but the image\'s ID'
complete -c rstore -n "__fish_rstore_using_subcommand build" -l check -d 'Check the Dockerfile instead of building it; exits 1 if something is found'
complete -c rstore -n "__fish_rstore_using_subcommand build" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand build" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand pull" -l platform -d 'Which image of several [default: this machine\'s]' -r
complete -c rstore -n "__fish_rstore_using_subcommand pull" -l tls-verify -d 'Whether registries must prove by a certificate who they are; =false also lets them speak HTTP' -r -f -a "true\t''
false\t''"
complete -c rstore -n "__fish_rstore_using_subcommand pull" -l cert-dir -d 'A directory of certificates: *.crt are authorities, *.cert and *.key are ours [default: certs.d/HOST of /etc/docker, /etc/containers]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand pull" -l stall-timeout -d 'How long a registry may send next to nothing before it is asked anew' -r
complete -c rstore -n "__fish_rstore_using_subcommand pull" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand pull" -l all-platforms -d 'The images for all platforms'
complete -c rstore -n "__fish_rstore_using_subcommand pull" -s a -l all-tags -d 'All tags of the repository'
complete -c rstore -n "__fish_rstore_using_subcommand pull" -s q -l quiet -d 'Print only the name of what was pulled'
complete -c rstore -n "__fish_rstore_using_subcommand pull" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand push" -l tls-verify -d 'Whether registries must prove by a certificate who they are; =false also lets them speak HTTP' -r -f -a "true\t''
false\t''"
complete -c rstore -n "__fish_rstore_using_subcommand push" -l cert-dir -d 'A directory of certificates: *.crt are authorities, *.cert and *.key are ours [default: certs.d/HOST of /etc/docker, /etc/containers]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand push" -l stall-timeout -d 'How long a registry may send next to nothing before it is asked anew' -r
complete -c rstore -n "__fish_rstore_using_subcommand push" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand push" -s q -l quiet -d 'Print only the name of what was pushed'
complete -c rstore -n "__fish_rstore_using_subcommand push" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand push" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand copy" -l platform -d 'Which image of several a registry or a docker-archive is asked for [default: this machine\'s]' -r
complete -c rstore -n "__fish_rstore_using_subcommand copy" -l tls-verify -d 'Whether registries must prove by a certificate who they are; =false also lets them speak HTTP' -r -f -a "true\t''
false\t''"
complete -c rstore -n "__fish_rstore_using_subcommand copy" -l cert-dir -d 'A directory of certificates: *.crt are authorities, *.cert and *.key are ours [default: certs.d/HOST of /etc/docker, /etc/containers]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand copy" -l stall-timeout -d 'How long a registry may send next to nothing before it is asked anew' -r
complete -c rstore -n "__fish_rstore_using_subcommand copy" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand copy" -l all-platforms -d 'The images for all platforms that a registry has'
complete -c rstore -n "__fish_rstore_using_subcommand copy" -s q -l quiet -d 'Print nothing'
complete -c rstore -n "__fish_rstore_using_subcommand copy" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand copy" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand login" -s u -l username -d 'The user' -r
complete -c rstore -n "__fish_rstore_using_subcommand login" -s p -l password -d 'The password; other users of this machine may see it: --password-stdin is safer' -r
complete -c rstore -n "__fish_rstore_using_subcommand login" -l tls-verify -d 'Whether registries must prove by a certificate who they are; =false also lets them speak HTTP' -r -f -a "true\t''
false\t''"
complete -c rstore -n "__fish_rstore_using_subcommand login" -l cert-dir -d 'A directory of certificates: *.crt are authorities, *.cert and *.key are ours [default: certs.d/HOST of /etc/docker, /etc/containers]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand login" -l stall-timeout -d 'How long a registry may send next to nothing before it is asked anew' -r
complete -c rstore -n "__fish_rstore_using_subcommand login" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand login" -l password-stdin -d 'Read the password from stdin'
complete -c rstore -n "__fish_rstore_using_subcommand login" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand login" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand logout" -l tls-verify -d 'Whether registries must prove by a certificate who they are; =false also lets them speak HTTP' -r -f -a "true\t''
false\t''"
complete -c rstore -n "__fish_rstore_using_subcommand logout" -l cert-dir -d 'A directory of certificates: *.crt are authorities, *.cert and *.key are ours [default: certs.d/HOST of /etc/docker, /etc/containers]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand logout" -l stall-timeout -d 'How long a registry may send next to nothing before it is asked anew' -r
complete -c rstore -n "__fish_rstore_using_subcommand logout" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand logout" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand logout" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand import" -l compression -d 'How the layer is compressed' -r
complete -c rstore -n "__fish_rstore_using_subcommand import" -l platform -d 'What the image runs on [default: this machine\'s]' -r
complete -c rstore -n "__fish_rstore_using_subcommand import" -s m -l message -d 'A comment for the image\'s history' -r
complete -c rstore -n "__fish_rstore_using_subcommand import" -l timestamp -d 'The time, in seconds since the epoch, that the image says it was made at' -r
complete -c rstore -n "__fish_rstore_using_subcommand import" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand import" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand load" -s i -l input -d 'The archive or the directory [default: stdin]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand load" -l name -d 'A name for an image that has none in the archive' -r
complete -c rstore -n "__fish_rstore_using_subcommand load" -l compression -d 'How the layers of a docker-archive are compressed; those of an OCI layout stay as they are' -r
complete -c rstore -n "__fish_rstore_using_subcommand load" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand load" -s q -l quiet -d 'Print IDs only'
complete -c rstore -n "__fish_rstore_using_subcommand load" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand load" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand save" -s o -l output -d 'The file, or the directory of --format oci; - is stdout [default: stdout]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand save" -l format -d 'What is written' -r -f -a "docker-archive\t'A tar archive as docker save writes it'
oci-archive\t'A tar archive of an OCI image layout'
oci\t'An OCI image layout directory, a new one or one that gets the images besides its own'"
complete -c rstore -n "__fish_rstore_using_subcommand save" -l platform -d 'Which platform of an image docker-archive gets [default: this machine\'s]' -r
complete -c rstore -n "__fish_rstore_using_subcommand save" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand save" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand save" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand export" -s o -l output -d 'The file; - is stdout [default: stdout]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand export" -l platform -d 'Which platform of an image that has several [default: this machine\'s]' -r
complete -c rstore -n "__fish_rstore_using_subcommand export" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand export" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand images" -l format -d 'table, json, jsonl, or a template such as \'{{.ID}} {{.Size}}\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand images" -l sort -d 'Sort by a column, named in lower case: \'size\', \'size:desc\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand images" -s f -l filter -d 'Show only what matches' -r
complete -c rstore -n "__fish_rstore_using_subcommand images" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand images" -s a -l all -d 'Also images without a name, and a column that says what they are'
complete -c rstore -n "__fish_rstore_using_subcommand images" -l tree -d 'Draw what descends from what'
complete -c rstore -n "__fish_rstore_using_subcommand images" -l digests -d 'Show manifest digests'
complete -c rstore -n "__fish_rstore_using_subcommand images" -s q -l quiet -d 'Print IDs only'
complete -c rstore -n "__fish_rstore_using_subcommand images" -l no-trunc -d 'Print IDs, digests and texts in full'
complete -c rstore -n "__fish_rstore_using_subcommand images" -l bytes -d 'Print sizes in bytes'
complete -c rstore -n "__fish_rstore_using_subcommand images" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand images" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand history" -l format -d 'table, json, jsonl, or a template such as \'{{.ID}} {{.Size}}\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand history" -l sort -d 'Sort by a column, named in lower case: \'size\', \'size:desc\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand history" -s f -l filter -d 'Show only what matches' -r
complete -c rstore -n "__fish_rstore_using_subcommand history" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand history" -s q -l quiet -d 'Print IDs only'
complete -c rstore -n "__fish_rstore_using_subcommand history" -l no-trunc -d 'Print IDs, digests and texts in full'
complete -c rstore -n "__fish_rstore_using_subcommand history" -l bytes -d 'Print sizes in bytes'
complete -c rstore -n "__fish_rstore_using_subcommand history" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand inspect" -s f -l format -d 'json, jsonl, or a template such as \'{{.Config.User}}\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand inspect" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand inspect" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand graph" -l format -d 'How it is drawn' -r -f -a "tree\t'Lines of text'
dot\t'For graphviz'
mermaid\t'For Markdown pages'
svg\t'A picture'
html\t'A page that finds things in the picture'
json\t'For programs'"
complete -c rstore -n "__fish_rstore_using_subcommand graph" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand graph" -l images -d 'Images only [default]'
complete -c rstore -n "__fish_rstore_using_subcommand graph" -l layers -d 'Layers too'
complete -c rstore -n "__fish_rstore_using_subcommand graph" -l up -d 'Who needs what is named'
complete -c rstore -n "__fish_rstore_using_subcommand graph" -l down -d 'What it needs'
complete -c rstore -n "__fish_rstore_using_subcommand graph" -l no-trunc -d 'Print digests and instructions in full, and long lines of steps unfolded'
complete -c rstore -n "__fish_rstore_using_subcommand graph" -l bytes -d 'Print sizes in bytes'
complete -c rstore -n "__fish_rstore_using_subcommand graph" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand graph" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand layers" -l format -d 'table, json, jsonl, or a template such as \'{{.ID}} {{.Size}}\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand layers" -l sort -d 'Sort by a column, named in lower case: \'size\', \'size:desc\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand layers" -s f -l filter -d 'Show only what matches' -r
complete -c rstore -n "__fish_rstore_using_subcommand layers" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand layers" -l dangling -d 'Only layers that nothing but dangling images holds, or nothing at all'
complete -c rstore -n "__fish_rstore_using_subcommand layers" -l unreferenced -d 'Only layers that no manifest holds'
complete -c rstore -n "__fish_rstore_using_subcommand layers" -s q -l quiet -d 'Print IDs only'
complete -c rstore -n "__fish_rstore_using_subcommand layers" -l no-trunc -d 'Print IDs, digests and texts in full'
complete -c rstore -n "__fish_rstore_using_subcommand layers" -l bytes -d 'Print sizes in bytes'
complete -c rstore -n "__fish_rstore_using_subcommand layers" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand layers" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand why" -l format -d 'table, json or jsonl' -r
complete -c rstore -n "__fish_rstore_using_subcommand why" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand why" -l no-trunc -d 'Print digests in full'
complete -c rstore -n "__fish_rstore_using_subcommand why" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand why" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand df" -l format -d 'table, json, jsonl, or a template such as \'{{.ID}} {{.Size}}\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand df" -l sort -d 'Sort by a column, named in lower case: \'size\', \'size:desc\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand df" -s f -l filter -d 'Show only what matches' -r
complete -c rstore -n "__fish_rstore_using_subcommand df" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand df" -s v -l verbose -d 'Also each image with its own and its shared bytes, and each cache mount'
complete -c rstore -n "__fish_rstore_using_subcommand df" -s q -l quiet -d 'Print IDs only'
complete -c rstore -n "__fish_rstore_using_subcommand df" -l no-trunc -d 'Print IDs, digests and texts in full'
complete -c rstore -n "__fish_rstore_using_subcommand df" -l bytes -d 'Print sizes in bytes'
complete -c rstore -n "__fish_rstore_using_subcommand df" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand df" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand ps" -l format -d 'table, json, jsonl, or a template such as \'{{.ID}} {{.Size}}\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand ps" -l sort -d 'Sort by a column, named in lower case: \'size\', \'size:desc\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand ps" -s f -l filter -d 'Show only what matches' -r
complete -c rstore -n "__fish_rstore_using_subcommand ps" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand ps" -s q -l quiet -d 'Print IDs only'
complete -c rstore -n "__fish_rstore_using_subcommand ps" -l no-trunc -d 'Print IDs, digests and texts in full'
complete -c rstore -n "__fish_rstore_using_subcommand ps" -l bytes -d 'Print sizes in bytes'
complete -c rstore -n "__fish_rstore_using_subcommand ps" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand ps" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand log" -s n -l limit -d 'How many entries' -r
complete -c rstore -n "__fish_rstore_using_subcommand log" -l format -d 'table, json, jsonl, or a template such as \'{{.ID}} {{.Size}}\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand log" -l sort -d 'Sort by a column, named in lower case: \'size\', \'size:desc\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand log" -s f -l filter -d 'Show only what matches' -r
complete -c rstore -n "__fish_rstore_using_subcommand log" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand log" -s q -l quiet -d 'Print IDs only'
complete -c rstore -n "__fish_rstore_using_subcommand log" -l no-trunc -d 'Print IDs, digests and texts in full'
complete -c rstore -n "__fish_rstore_using_subcommand log" -l bytes -d 'Print sizes in bytes'
complete -c rstore -n "__fish_rstore_using_subcommand log" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand log" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand tag" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand tag" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand tag" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand untag" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand untag" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand untag" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand rmi" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand rmi" -s f -l force -d 'Remove an image that was named by its ID and has several names'
complete -c rstore -n "__fish_rstore_using_subcommand rmi" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand rmi" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand pin" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand pin" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand pin" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand unpin" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand unpin" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand unpin" -s h -l help -d 'Print help'
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l ignore-broken -d 'Go on although this document cannot be read: it stays, what only it needs may go' -r
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l until -d 'Spare what was used within AGE, or since a time' -r
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l filter -d 'Of the cache mounts take only those of this ID: id=/root/.cache' -r
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l format -d 'table or json' -r
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l dangling -d 'Dangling images, what only they reached, unreferenced layers, debris [default]'
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l stages -d 'Also images that builds of tagged ones copied from, and those these were made from'
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l intermediates -d 'Also images that tagged ones descend from'
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l snapshots -d 'Unpacked layers; the next build unpacks those that it needs'
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l cache -d 'The records of the build cache'
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l cache-mounts -d 'The directories of RUN --mount=type=cache'
complete -c rstore -n "__fish_rstore_using_subcommand prune" -s a -l all -d 'Whatever tagged and pinned images don\'t need in order to run'
complete -c rstore -n "__fish_rstore_using_subcommand prune" -s n -l dry-run -d 'Show what would go, and remove nothing'
complete -c rstore -n "__fish_rstore_using_subcommand prune" -s f -l force -d 'Don\'t ask'
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l no-trunc -d 'Print IDs and texts in full'
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l bytes -d 'Print sizes in bytes'
complete -c rstore -n "__fish_rstore_using_subcommand prune" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand fsck" -l jobs -d 'How many blobs are read at the same time [default: as many as there are processors, 8 at most]' -r
complete -c rstore -n "__fish_rstore_using_subcommand fsck" -l format -d 'table, json, jsonl, or a template such as \'{{.Kind}} {{.Subject}}\'' -r
complete -c rstore -n "__fish_rstore_using_subcommand fsck" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand fsck" -l repair -d 'Put right what can be, move away what is corrupt'
complete -c rstore -n "__fish_rstore_using_subcommand fsck" -l quick -d 'Read no blob: compare names and sizes only'
complete -c rstore -n "__fish_rstore_using_subcommand fsck" -s q -l quiet -d 'Print only what is found, a subject a line, and no notes'
complete -c rstore -n "__fish_rstore_using_subcommand fsck" -l no-trunc -d 'Print texts in full'
complete -c rstore -n "__fish_rstore_using_subcommand fsck" -l bytes -d 'Print sizes in bytes'
complete -c rstore -n "__fish_rstore_using_subcommand fsck" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand fsck" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand shell" -s u -l user -d 'Who runs it: user[:group], by name or number' -r
complete -c rstore -n "__fish_rstore_using_subcommand shell" -s w -l workdir -d 'The working directory' -r
complete -c rstore -n "__fish_rstore_using_subcommand shell" -s e -l env -d 'A variable for it; without =VALUE it is taken from the environment' -r
complete -c rstore -n "__fish_rstore_using_subcommand shell" -l network -d 'The network that it sees [default: host, or that of the failed step]' -r -f -a "host\t'The machine\'s own'
none\t'None but the loopback device'"
complete -c rstore -n "__fish_rstore_using_subcommand shell" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand shell" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand shell" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand completions" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand completions" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand version" -l format -d 'table or json' -r
complete -c rstore -n "__fish_rstore_using_subcommand version" -l root -d 'The store\'s directory [default: /var/lib/rstore as root, $XDG_DATA_HOME/rstore otherwise]' -r -F
complete -c rstore -n "__fish_rstore_using_subcommand version" -l no-progress -d 'Show no progress, only results and what fails'
complete -c rstore -n "__fish_rstore_using_subcommand version" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "build" -d 'Build an image from a Dockerfile'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "pull" -d 'Pull images from registries'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "push" -d 'Push an image to a registry'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "copy" -d 'Copy an image between store, registries, archives and layouts'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "login" -d 'Log in to a registry'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "logout" -d 'Forget the login to a registry'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "import" -d 'Make an image of a root file system'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "load" -d 'Take images in from an archive or a layout'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "save" -d 'Write images to an archive or a layout'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "export" -d 'Write the root file system of an image to a tar archive'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "images" -d 'List images'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "history" -d 'Show the steps that made an image'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "inspect" -d 'Show all that is known of images, as JSON'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "graph" -d 'Show what descends from what'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "layers" -d 'List layers'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "why" -d 'Tell what keeps an image, a layer or a blob'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "df" -d 'Show what the disk is used for, and what a prune would give back'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "ps" -d 'List intermediate containers, running and left over'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "log" -d 'Show what builds, tags and prunes did'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "tag" -d 'Give an image another name'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "untag" -d 'Take names away, and nothing else'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "rmi" -d 'Remove images: their names, and what only they needed'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "pin" -d 'Keep an image without a name'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "unpin" -d 'No longer keep an image for its pin'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "prune" -d 'Remove what nothing needs'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "fsck" -d 'Check that the store is whole, and repair it'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "shell" -d 'Open a shell in an image, or in the container that a failed step left'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "completions" -d 'Print a shell\'s completion script'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "version" -d 'Show the version'
complete -c rstore -n "__fish_rstore_using_subcommand help; and not __fish_seen_subcommand_from build pull push copy login logout import load save export images history inspect graph layers why df ps log tag untag rmi pin unpin prune fsck shell completions version help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
