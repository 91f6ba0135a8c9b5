//! The steps of the README and of docs/deploy.md, carried out as they are.

use testkit::machine::{commands_in, run};

#[test]
fn the_steps_put_a_site_behind_apache_and_leave_the_readers_own_site_alone() {
    let steps = commands_in("docs/deploy.md", "a2enmod cgid");
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
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        said.matches("you've been here 1 time(s)").count(),
        2,
        "{said}"
    );
    assert_eq!(said.matches("\n0 problems, ").count(), 2, "{said}");
    let (_, after) = said.split_once("== links\n").unwrap();
    let mut lines = after.lines();
    let followed: u32 = lines.next().unwrap().trim().parse().unwrap();
    assert!(followed >= 8, "{after}");
    assert_eq!(
        lines.collect::<Vec<_>>(),
        ["700 www-data"],
        "links that lead nowhere"
    );
}

#[test]
fn the_readmes_steps_put_a_new_program_behind_apache() {
    let steps = commands_in("README.md", "a2enmod cgid");
    let script = format!("{steps}\ncurl -sS http://localhost/cgi-bin/hello\n");
    let Some(output) = run(&script) else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("\n0 problems, "), "{output:?}");
    assert!(said.contains("you've been here 1 time(s)"), "{output:?}");
}
