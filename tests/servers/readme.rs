//! The steps of the README and of docs/deploy.md, carried out as they are.

use testkit::machine::{block_in, run};
use testkit::prelude::*;

#[test]
fn the_steps_put_a_site_behind_apache_and_leave_the_readers_own_site_alone() {
    let steps = block_in("docs/deploy.md", "a2enmod cgid");
    // Twice: an administrator repeats what went wrong half way.
    let script = format!(
        "mkdir -p /var/www/html; echo 'the reader'\\''s own' > /var/www/html/index.html\n\
         {steps}\n\
         echo 'timeout = 5' >> /etc/cgi-session.ini\n\
         {steps}\n\
         grep -q '^timeout = 5$' /etc/cgi-session.ini\n\
         curl -sS http://localhost/ | grep -q 'own'\n\
         echo == links\n\
         curl -sSf http://localhost:8081/ | sed '/<!--/,/-->/d' | grep -o 'href=\"[^\"]*\"' | sort -u | cut -d'\"' -f2 > /run/links\n\
         wc -l < /run/links\n\
         while read -r link; do curl -sSf -o /dev/null \"http://localhost:8081$link\" || echo \"$link\"; done < /run/links\n\
         test ! -e /var/www/cgi-session/www\n\
         stat -c '%a %U' /var/lib/cgi-session\n"
    );
    let Some(output) = run(&script) else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    let is_it = output.status.success();
    assert!(is_it, "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let seen = said.matches("you've been here 1 time(s)").count();
    assert_eq!(seen, 2, "{said}");
    assert_eq!(said.matches("\n0 problems, ").count(), 2, "{said}");
    let (_, after) = said.split_once("== links\n").unwrap();
    let mut lines = after.lines();
    let followed: u32 = lines.next().unwrap().trim().parse().unwrap();
    assert!(followed >= 8, "{after}");
    let seen = lines.collect::<Vec<_>>();
    assert_eq!(seen, ["700 www-data"], "links that lead nowhere");
}

#[test]
fn the_readmes_steps_put_a_new_program_behind_apache() {
    let steps = block_in("README.md", "a2enmod cgid");
    let script = format!("{steps}\ncurl -sS http://localhost/cgi-bin/hello\n");
    let Some(output) = run(&script) else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("\n0 problems, "), "{output:?}");
    assert!(said.contains("you've been here 1 time(s)"), "{output:?}");
}

#[test]
fn the_steps_of_the_archive_install_it_for_the_whole_machine() {
    let steps = block_in("packaging/tarball.md", "systemctl enable");
    // The archive as packaging/build makes it.
    let script = format!(
        "mkdir -p ../archive/doc ../archive/man ../archive/systemd\n\
         cp target/debug/cgi-session* ../archive\n\
         cp examples/deploy/cgi-session-cleanup* ../archive/systemd\n\
         ln -s \"$PWD/examples\" ../archive/doc\n\
         cd ../archive; ./cgi-session man --all man; touch man/cgi-session.ini.5\n\
         {steps}\n\
         test -e /usr/local/share/man/man1/cgi-session-list.1\n\
         cgi-session check --as www-data\n"
    );
    let Some(output) = run(&script) else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("0 problems, "), "{output:?}");
}

#[test]
fn the_steps_for_shared_hosting_need_no_root_and_no_environment() {
    if !Path::new("/usr/lib/apache2/suexec").exists() {
        not_installed("suexec");
        return;
    }
    let steps = block_in("docs/deploy.md", "cd ~/public_html/cgi-bin");
    let access = block_in("docs/deploy.md", "AddHandler cgi-script");
    let script = format!(
        "useradd --create-home --home-dir /var/www/plain plain\n\
         mkdir -p /var/www/plain/public_html/cgi-bin\n\
         cp -r ../hello /var/www/plain/hello\n\
         cat > /var/www/plain/public_html/cgi-bin/.htaccess <<'END'\n{access}\nEND\n\
         chmod 755 /var/www/plain; chown -R plain: /var/www/plain\n\
         su --shell /bin/bash --login plain <<'END'\nset -eu\n{steps}\nEND\n\
         cat > /etc/apache2/sites-available/plain.conf <<'END'\n\
         Listen 8082\n\
         <VirtualHost *:8082>\n\
         SuexecUserGroup plain plain\n\
         SetEnv CGI_SESSION_STORAGE_FILE_DIR /nowhere\n\
         DocumentRoot /var/www/plain/public_html\n\
         <Directory /var/www/plain/public_html>\n\
         AllowOverride All\n\
         Require all granted\n\
         </Directory>\n\
         </VirtualHost>\n\
         END\n\
         a2disconf serve-cgi-bin; a2enmod suexec cgid; a2ensite plain; apache2ctl start\n\
         for _ in $(seq 100); do\n\
         curl -sf http://localhost:8082/cgi-bin/hello.cgi && break; sleep 0.05\n\
         done\n\
         curl -s -o /dev/null -w 'ini %{{http_code}}\\n' http://localhost:8082/cgi-bin/cgi-session.ini\n\
         tail /var/log/apache2/error.log /var/log/apache2/suexec.log >&2\n\
         stat -c '%a %U' /var/www/plain/sessions /var/www/plain/sessions/*.json\n"
    );
    let Some(output) = run(&script) else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("you've been here 1 time(s)"), "{output:?}");
    let is_it = said.ends_with("ini 403\n700 plain\n600 plain\n");
    assert!(is_it, "{output:?}");
}

#[test]
fn the_commands_of_operation_keep_every_session_and_its_times() {
    let block = |title| block_in("docs/operation.md", title);
    let (back_up, restore) = (block("# back up"), block("# restore"));
    let (copy, switch) = (block("# move"), block("# switch"));
    let script = format!(
        "install -m 755 target/debug/cgi-session target/debug/cgi-session-cleanup /usr/local/bin/\n\
         install -m 644 examples/deploy/cgi-session.ini /etc/cgi-session.ini\n\
         cgi-session init --owner www-data\n\
         cookie=$(setpriv --reuid www-data --regid www-data --clear-groups cgi-session set colour red)\n\
         touch -d '-40 minutes' /var/lib/cgi-session/*.json\n\
         times() {{ cgi-session list --json | jq -c '[.[] | [.digest, .lastAccess]]'; }}\n\
         before=$(times)\n\
         {back_up}\n\
         rm -r /var/lib/cgi-session\n\
         {restore}\n\
         test \"$(times)\" = \"$before\"\n\
         {copy}\n\
         {switch}\n\
         test \"$(times)\" = \"$before\"\n\
         test ! -e /var/lib/cgi-session\n\
         HTTP_COOKIE=${{cookie%%;*}} setpriv --reuid www-data --regid www-data --clear-groups cgi-session get colour\n"
    );
    let Some(output) = run(&script) else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:#?}");
    assert!(said.ends_with("\nred\n"), "{said}");
}
