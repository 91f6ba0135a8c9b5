# Makes a manual page of a document: name, section, about, date and version are given by -v. It knows what the
# documents use: headings, paragraphs, lists, fenced blocks and tables, of which a row becomes a term and
# its description.

function plain(text) {
    gsub(/\\/, "\\e", text)
    return text
}

# Text with `code`, **words** and [links](address).
function inline(text, parts, count, i, done) {
    count = split(plain(text), parts, "`")
    for (i = 1; i <= count; i++) {
        if (i % 2 == 0) {
            gsub(/-/, "\\-", parts[i])
            done = done "\\fB" parts[i] "\\fR"
            continue
        }
        while (match(parts[i], /\*\*[^*]+\*\*/)) {
            parts[i] = substr(parts[i], 1, RSTART - 1) "\\fB" substr(parts[i], RSTART + 2, RLENGTH - 4) "\\fR" substr(parts[i], RSTART + RLENGTH)
        }
        done = done parts[i]
    }
    while (match(done, /\[[^]]+\]\([^)]+\)/)) {
        link = substr(done, RSTART, RLENGTH)
        sub(/\]\(.*/, "", link)
        done = substr(done, 1, RSTART - 1) substr(link, 2) substr(done, RSTART + RLENGTH)
    }
    return guarded(done)
}

# No line of text is a request.
function guarded(text) {
    return text ~ /^[.']/ ? "\\&" text : text
}

function row(line, cells, count, i, term) {
    gsub(/^\| *| *\|$/, "", line)
    gsub(/\\\|/, "\001", line)
    count = split(line, cells, / *\| */)
    gsub(/\001/, "|", line)
    term = cells[1] == "" ? "" : inline(cells[1])
    for (i = 2; i < count; i++) {
        if (cells[i] != "" && cells[i] != "–") {
            term = term (term !~ /  \(/ ? "  (" : ", ") (i == 3 && count == 4 ? "default " : "") inline(cells[i])
        }
    }
    if (term ~ /  \(/) {
        term = term ")"
    }
    gsub(/\001/, "|", term)
    gsub(/\001/, "|", cells[count])
    print ".TP\n" guarded(term) "\n" inline(cells[count])
}

BEGIN {
    begins = 1
    printf ".TH \"%s\" %s \"%s\" \"%s\" \"File Formats\"\n", toupper(name), section, date, version
    gsub(/-/, "\\-", name)
    printf ".SH NAME\n%s \\- %s\n.SH DESCRIPTION\n", name, about
    is_open = 1
}

/^```/ {
    is_fenced = !is_fenced
    print is_fenced ? (begins ? "" : ".PP\n") ".RS 4\n.nf" : ".fi\n.RE"
    begins = 0
    next
}
is_fenced { print guarded(plain($0)); next }
/^# / { next }
/^## / { print ".SH " toupper(inline(substr($0, 4))); is_open = begins = 1; next }
/^### / { print ".SS " inline(substr($0, 5)); is_open = begins = 1; next }
# A table: the line above the rule is its head.
/^\|/ && !in_table { in_table = 1; next }
/^\|[-|: ]+$/ { next }
/^\|/ { row($0); next }
{ in_table = 0 }
/^$/ { is_open = begins; next }
{ begins = 0 }
/^[*-] / { print ".IP \\(bu 2\n" inline(substr($0, 3)); is_open = 1; next }
/^[0-9]+\. / {
    number = $1
    sub(/^[0-9]+\. /, "")
    print ".IP " number " 3\n" inline($0)
    is_open = 1
    next
}
{
    sub(/^ +/, "")
    if (!is_open) { print ".PP" }
    print inline($0)
    is_open = 1
}
