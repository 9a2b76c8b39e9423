# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_filmgate_global_optspecs
    string join \n h/help V/version
end

function __fish_filmgate_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_filmgate_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_filmgate_using_subcommand
    set -l cmd (__fish_filmgate_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c filmgate -n "__fish_filmgate_needs_command" -s h -l help -d 'Print help'
complete -c filmgate -n "__fish_filmgate_needs_command" -s V -l version -d 'Print version'
complete -c filmgate -n "__fish_filmgate_needs_command" -f -a "run" -d 'Run the gate until it is told to stop'
complete -c filmgate -n "__fish_filmgate_needs_command" -f -a "check" -d 'Check a configuration and the files it names, and print every problem'
complete -c filmgate -n "__fish_filmgate_needs_command" -f -a "print-default" -d 'Print a commented configuration with every key and its default'
complete -c filmgate -n "__fish_filmgate_needs_command" -f -a "presign" -d 'Make a presigned link for a route that signs anew'
complete -c filmgate -n "__fish_filmgate_needs_command" -f -a "policy" -d 'Ask what the rules of a route say'
complete -c filmgate -n "__fish_filmgate_needs_command" -f -a "demo" -d 'Try it here and now: a real S3 server, a gate in front of it, and links to use (needs a build with the demo)'
complete -c filmgate -n "__fish_filmgate_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c filmgate -n "__fish_filmgate_using_subcommand run" -l config -d 'Configuration file' -r -F
complete -c filmgate -n "__fish_filmgate_using_subcommand run" -s h -l help -d 'Print help'
complete -c filmgate -n "__fish_filmgate_using_subcommand check" -l config -d 'Configuration file' -r -F
complete -c filmgate -n "__fish_filmgate_using_subcommand check" -l to-start -d 'Refuse only what `run` would refuse, and leave ports alone: for scripts, as the user of the service'
complete -c filmgate -n "__fish_filmgate_using_subcommand check" -s h -l help -d 'Print help'
complete -c filmgate -n "__fish_filmgate_using_subcommand print-default" -s h -l help -d 'Print help'
complete -c filmgate -n "__fish_filmgate_using_subcommand presign" -l config -d 'Configuration file' -r -F
complete -c filmgate -n "__fish_filmgate_using_subcommand presign" -l route -d 'Name by which clients reach the route, with its port if that is not 443' -r
complete -c filmgate -n "__fish_filmgate_using_subcommand presign" -l client -d 'Sign with the key of this [[client]], for the gate; without it, with the route\'s role, for the storage itself' -r
complete -c filmgate -n "__fish_filmgate_using_subcommand presign" -l expires -d 'How long the link is good, such as 15m; seven days at most' -r
complete -c filmgate -n "__fish_filmgate_using_subcommand presign" -s h -l help -d 'Print help'
complete -c filmgate -n "__fish_filmgate_using_subcommand policy; and not __fish_seen_subcommand_from explain help" -s h -l help -d 'Print help'
complete -c filmgate -n "__fish_filmgate_using_subcommand policy; and not __fish_seen_subcommand_from explain help" -f -a "explain" -d 'Say which rule decides about a request; exit with 0 if it is allowed, 1 if not, 2 if there is no answer'
complete -c filmgate -n "__fish_filmgate_using_subcommand policy; and not __fish_seen_subcommand_from explain help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c filmgate -n "__fish_filmgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l config -d 'Configuration file' -r -F
complete -c filmgate -n "__fish_filmgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l route -d 'Name by which the client reaches the gate; may be left out if only one route has mode = "re-sign"' -r
complete -c filmgate -n "__fish_filmgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l client -d 'Name of the [[client]] who asks' -r
complete -c filmgate -n "__fish_filmgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l address -d 'Where it comes from; else its addresses are not looked at' -r
complete -c filmgate -n "__fish_filmgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l certificate-name -d 'A name in its certificate (repeat for each); else its certificate-names are not looked at' -r
complete -c filmgate -n "__fish_filmgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -s H -l header -d 'A field of the request, such as "x-amz-acl: private" (repeat for each)' -r
complete -c filmgate -n "__fish_filmgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -l key -d 'A key in the body of a DeleteObjects, or of a form (repeat for each)' -r
complete -c filmgate -n "__fish_filmgate_using_subcommand policy; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help'
complete -c filmgate -n "__fish_filmgate_using_subcommand policy; and __fish_seen_subcommand_from help" -f -a "explain" -d 'Say which rule decides about a request; exit with 0 if it is allowed, 1 if not, 2 if there is no answer'
complete -c filmgate -n "__fish_filmgate_using_subcommand policy; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c filmgate -n "__fish_filmgate_using_subcommand demo" -l size -d 'Size of the file that makes the round trip, such as 300MB or 1GiB' -r
complete -c filmgate -n "__fish_filmgate_using_subcommand demo" -l listen -d 'Port of the gate on 127.0.0.1; any free one if left out' -r
complete -c filmgate -n "__fish_filmgate_using_subcommand demo" -l tls-kernel -d 'Whether TLS records may be left to the kernel: auto or off' -r
complete -c filmgate -n "__fish_filmgate_using_subcommand demo" -l once -d 'Make the round trip, print what passed, and exit with 0 or 1'
complete -c filmgate -n "__fish_filmgate_using_subcommand demo" -s h -l help -d 'Print help'
complete -c filmgate -n "__fish_filmgate_using_subcommand help; and not __fish_seen_subcommand_from run check print-default presign policy demo help" -f -a "run" -d 'Run the gate until it is told to stop'
complete -c filmgate -n "__fish_filmgate_using_subcommand help; and not __fish_seen_subcommand_from run check print-default presign policy demo help" -f -a "check" -d 'Check a configuration and the files it names, and print every problem'
complete -c filmgate -n "__fish_filmgate_using_subcommand help; and not __fish_seen_subcommand_from run check print-default presign policy demo help" -f -a "print-default" -d 'Print a commented configuration with every key and its default'
complete -c filmgate -n "__fish_filmgate_using_subcommand help; and not __fish_seen_subcommand_from run check print-default presign policy demo help" -f -a "presign" -d 'Make a presigned link for a route that signs anew'
complete -c filmgate -n "__fish_filmgate_using_subcommand help; and not __fish_seen_subcommand_from run check print-default presign policy demo help" -f -a "policy" -d 'Ask what the rules of a route say'
complete -c filmgate -n "__fish_filmgate_using_subcommand help; and not __fish_seen_subcommand_from run check print-default presign policy demo help" -f -a "demo" -d 'Try it here and now: a real S3 server, a gate in front of it, and links to use (needs a build with the demo)'
complete -c filmgate -n "__fish_filmgate_using_subcommand help; and not __fish_seen_subcommand_from run check print-default presign policy demo help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c filmgate -n "__fish_filmgate_using_subcommand help; and __fish_seen_subcommand_from policy" -f -a "explain" -d 'Say which rule decides about a request; exit with 0 if it is allowed, 1 if not, 2 if there is no answer'
