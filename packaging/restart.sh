# A running filmgate is restarted once its transfers are done, for as long as timeouts.drain says. Not where the new program
# would not start: that must not end the old one. So it is asked as the service would be, by its user, in its
# groups and with its credentials. What a drop-in starts with another configuration is not asked for.
restart_filmgate() { # COMMAND... that restarts units
    user=$(systemctl show --value --property=User filmgate.service)
    group=$(systemctl show --value --property=Group filmgate.service)
    groups=${group:+"-g $group"}
    for more in $(systemctl show --value --property=SupplementaryGroups filmgate.service); do
        groups="$groups -G $more"
    done
    credentials=/run/credentials/filmgate.service
    [ -d "$credentials" ] || credentials=
    case $(systemctl show --value --property=ExecStart filmgate.service) in
        *"argv[]=/usr/bin/filmgate run --config /etc/filmgate/filmgate.toml ;"*)
            # shellcheck disable=SC2086 # names of groups have no spaces
            if ! problems=$(runuser -u "${user:-root}" $groups -- env ${credentials:+"CREDENTIALS_DIRECTORY=$credentials"} \
                /usr/bin/filmgate check --to-start --config /etc/filmgate/filmgate.toml 2>&1 >/dev/null); then
                echo "filmgate: still running as before the upgrade, because the new version would not start:"
                echo "$problems"
                echo "filmgate: once that is mended: systemctl restart filmgate"
                return 0
            fi
            ;;
    esac
    "$@" try-restart filmgate.service >/dev/null || echo "filmgate: not restarted, see: systemctl status filmgate"
}
