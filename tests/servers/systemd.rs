//! The shipped systemd units, installed by the commands that come with them.

use testkit::is_installed;
use testkit::machine::{block_in, commands_of, run};

#[test]
fn the_units_as_installed_are_sound_and_the_clean_up_does_its_work() {
    if !is_installed("systemd-analyze") {
        return;
    }
    let script = format!(
        "{}\n{}\n{}\n{}\n\
         PATH=$PATH:/usr/lib/cgi-bin\n\
         {} &\n\
         seen() {{ stat -c '%a %G' /run/app/app.sock; }}\n\
         for _ in $(seq 1000); do [[ $(seen) != '660 www-data' ]] || break; sleep 0.05; done\n\
         [[ $(seen) == '660 www-data' ]]\n\
         kill $!\n\
         cd /etc/systemd/system\n\
         systemd-analyze verify --man=no --recursive-errors=no ./*.socket ./*.service ./*.timer\n\
         verdict=$?\n\
         run() {{ setpriv --reuid www-data --regid www-data --clear-groups \"$@\"; }}\n\
         run env REQUEST_METHOD=GET /usr/lib/cgi-bin/counter > /dev/null\n\
         touch -d '2 hours ago' /var/lib/cgi-session/*.json\n\
         command=$(sed -n 's/^ExecStart=//p' cgi-session-cleanup.service)\n\
         $command\n\
         find /var/lib/cgi-session -name '*.json' | wc -l\n\
         exit $verdict\n",
        block_in("docs/deploy.md", "a2enmod cgid"),
        block_in("docs/deploy.md", "cgi-session-cleanup.timer"),
        block_in("docs/deploy.md", "cgi-session-guard.service"),
        commands_of("cgi-session-app.socket"),
        block_in("docs/deploy.md", "--socket-group www-data")
            .trim_end()
            // Which is not there, and would be another process than the one to end.
            .replace("sudo -u", "setpriv --clear-groups --regid www-data --reuid"),
    );
    let Some(output) = run(&script) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{said}");
    // It complains about units of the machine, too.
    let complaints = said.lines().filter(|line| line.contains("cgi-session"));
    let complaints: Vec<_> = complaints.collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(stdout.ends_with("\n0\n"), "{stdout}");
}

#[test]
fn the_units_can_reach_an_engine_and_are_never_skipped() {
    for unit in ["cleanup", "app", "guard"] {
        let unit = format!("cgi-session-{unit}.service");
        let unit = unit.as_str();
        let text = testkit::server::shipped(unit, &[]);
        let lacks_it = !text.contains("PrivateNetwork=") && !text.contains("\nCondition");
        assert!(lacks_it, "{unit}");
        let is_so = text.contains("RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n");
        assert!(is_so, "{unit}");
        // systemd gives a StateDirectory to the unit's user: a clean-up serves whichever owner it has.
        let takes_it = text.contains("\nStateDirectory=");
        assert_eq!(takes_it, !unit.contains("cleanup"), "{unit}");
    }
}
