//! [`Record`]: what a store keeps for one session.

mod devices;
mod head;
mod namespaces;
mod values;

use std::fmt;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::{Config, MAX_TIME};
use crate::id::SessionDigest;
use head::{
    BEFORE, CHANGED, CONFIRMED, COOKIE_LIFE, EXPIRES, FIRST, Head, IDLE, LIFETIME, REPLACED, SENT,
    TIMEOUT, TRIES, USER, canonical_head, general_head,
};

pub use devices::Device;
pub(crate) use devices::Devices;
pub use head::RecordError;
pub(crate) use namespaces::Namespaces;
pub use namespaces::Reservation;
pub use values::Values;
pub(crate) use values::{Flashes, typed};

/// What is stored for one session: when it was made, when it ends, and its values by application.
///
/// As text it is one JSON object,
/// `{"v":1,"created":1767225600,"idle":3600,"values":{"":{"pageViews":3}}}`. These members are optional
/// and stand, in this order, between `created` and `values`:
///
/// | member | meaning |
/// |---|---|
/// | `expires` | an end of its own, in seconds since 1970, which no use moves |
/// | `timeout` | an idle time of its own, in seconds ([`Session::set_timeout`](crate::Session::set_timeout)); of a copy, for how long after `changed` it can be read |
/// | `idle` | how long the session lives unused, in seconds: `timeout`, or the largest of the programs that saved it |
/// | `lifetime` | how long it lives at all, in seconds: the largest of these programs; 0 is without limit |
/// | `sent` | when its cookie was last sent, in seconds since 1970, if that has a Max-Age |
/// | `changed` | when its id was last changed, in seconds since 1970 |
/// | `tries` | how many calls for the expired session have failed ([`Sweep::each`](crate::Sweep::each)) |
/// | `cookieLife` | the Max-Age of its cookie, in seconds, if it has one of its own |
/// | `confirmed` | when the user last proved who it is, in seconds since 1970 |
/// | `before` | the digests of the ids before that, the newest first, while requests under way may show them |
/// | `first` | the beginning (40 digits) of the digest of the first id, once the id was changed |
/// | `user` | whose session it is |
/// | `replaced` | the session continues under another id: `"copy"` can still be read, `"marker"` has no data |
/// | `private` | `true`: only a program that gives the id itself opens it, no cookie and no link |
///
/// Members that this release does not know are kept as they are. The values of the application whose
/// `app` is empty stand under `""`.
///
/// A store moves records; it never needs to look into the values, and they are not parsed
/// until a program asks for one.
#[derive(Clone)]
pub struct Record {
    // Apart, since records are moved from hand to hand.
    head: Box<Head>,
    /// A JSON text of which `values` is the part that holds the values.
    text: Vec<u8>,
    values: Range<usize>,
}

const MARKER: &str = "marker";
const COPY: &str = "copy";

/// So many ids before the present one are known. Each of these knows those before it.
const MAX_PREDECESSORS: usize = 4;
/// How long a marker of a change of id is kept.
const MARKER_LIFE: Duration = Duration::from_secs(60);

impl Record {
    /// A record without values, made at `created`.
    #[must_use]
    pub fn new(created: SystemTime) -> Self {
        let mut head = Box::<Head>::default();
        head.created = unix_seconds(created);
        Record {
            head,
            text: b"{}".to_vec(),
            values: 0..2,
        }
    }

    /// Reads the text that [`Record::to_json`] writes, or any JSON text of the same meaning.
    ///
    /// # Errors
    ///
    /// [`RecordError::LaterVersion`] for a format of the future, which must be left alone, and
    /// [`RecordError::Malformed`] for anything else that is not a record.
    pub fn from_json(text: Vec<u8>) -> Result<Self, RecordError> {
        let whole = 0..text.len();
        Self::from_part(text, whole)
    }

    /// As [`Record::from_json`], of a part of a text.
    pub(crate) fn from_part(text: Vec<u8>, part: Range<usize>) -> Result<Self, RecordError> {
        let start = part.start;
        let json = text.get(part).unwrap_or_default();
        let (head, values) = match canonical_head(json) {
            Some(parts) => parts,
            None => general_head(json)?,
        };
        let values = start + values.start..start + values.end;
        Ok(Record { head, text, values })
    }

    /// The record as one JSON object on one line.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.values.len() + 200);
        self.write_json(&mut text);
        text
    }

    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        self.head.write(out);
        out.extend_from_slice(self.values());
        out.push(b'}');
    }

    /// The length of [`Record::to_json`], without writing the values.
    pub(crate) fn json_len(&self) -> usize {
        let mut head = Vec::with_capacity(200);
        self.head.write(&mut head);
        head.len() + self.values.len() + 1
    }

    /// When the session was made, to the second.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        // A moment that the clock cannot name is no moment at which this session was made.
        moment(self.head.created).unwrap_or(UNIX_EPOCH)
    }

    /// How long the session lives however much it is used; `None` without limit. `lifetime` of the
    /// configuration counts for a record that no program has saved yet.
    #[must_use]
    pub fn lifetime(&self, lifetime: Option<Duration>) -> Option<Duration> {
        match self.head.numbers[LIFETIME] {
            None => lifetime,
            Some(0) => None,
            Some(seconds) => Some(Duration::from_secs(seconds)),
        }
    }

    /// Whether it was made longer ago than it lives, or, by a clock that was wrong, so far ahead.
    pub(crate) fn is_too_old(&self, lifetime: Option<Duration>, now: SystemTime) -> bool {
        let age = now.duration_since(self.created());
        // It was made at some moment of that second: it has all of its life, and not a moment less.
        let age = Duration::from_secs(age.unwrap_or_else(|ahead| ahead.duration()).as_secs());
        self.lifetime(lifetime)
            .is_some_and(|lifetime| age > lifetime)
    }

    /// When the session ends, if it has an end of its own; otherwise it ends [`Record::idle`] after its last use.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.head.numbers[EXPIRES].and_then(moment)
    }

    /// The idle time of this session, if it has one of its own.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.head.numbers[TIMEOUT].map(Duration::from_secs)
    }

    /// How long the session lives unused, whichever program looks at it; `None` in a record that no
    /// program has saved yet, for which `timeout` of the configuration counts.
    #[must_use]
    pub fn idle(&self) -> Option<Duration> {
        let [own, idle] = [TIMEOUT, IDLE].map(|number| self.head.numbers[number]);
        idle.or(own).map(Duration::from_secs)
    }

    /// How long the session lives unused; `timeout` counts for a record that says nothing.
    pub(crate) fn idle_or(&self, timeout: Duration) -> Duration {
        self.idle().unwrap_or(timeout)
    }

    /// When a session ends that was last used then; `None` for a moment that no clock will show.
    pub(crate) fn end(&self, last_access: SystemTime, timeout: Duration) -> Option<SystemTime> {
        let unused = || last_access.checked_add(self.idle_or(timeout));
        self.expires().or_else(unused)
    }

    /// Gives the session an idle time of its own, or takes it away: then it is no longer than this one of the
    /// configuration. Tells whether that changed something.
    pub(crate) fn set_timeout(&mut self, timeout: Option<Duration>, configured: Duration) -> bool {
        let seconds = timeout.map(|timeout| timeout.as_secs().clamp(1, MAX_TIME));
        let is_longer = seconds.is_none() && self.idle() > Some(configured);
        let has_changed = self.head.numbers[TIMEOUT] != seconds || is_longer;
        if has_changed {
            self.head.numbers[TIMEOUT] = seconds;
            self.head.numbers[IDLE] = seconds;
        }
        has_changed
    }

    /// Notes that a program saves it whose configuration says this: a session is kept as long as
    /// any of its programs wants.
    pub(crate) fn note_saved_by(&mut self, config: &Config) {
        if self.head.numbers[TIMEOUT].is_none() {
            let seconds = whole_seconds(config.timeout).min(MAX_TIME);
            let idle = &mut self.head.numbers[IDLE];
            *idle = Some(idle.map_or(seconds, |idle| idle.max(seconds)));
        }
        let seconds = config.lifetime.map_or(0, whole_seconds);
        let lifetime = &mut self.head.numbers[LIFETIME];
        *lifetime = match *lifetime {
            Some(before) if before == 0 || seconds == 0 => Some(0),
            before => Some(before.map_or(seconds, |before| before.max(seconds))),
        };
    }

    /// Whose session it is, if a program has said so.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.head.texts[USER].as_deref()
    }

    /// The same record as the session of this user. Another user has not proved who it is.
    #[must_use]
    pub fn with_user(mut self, user: Option<&str>) -> Self {
        if self.user() != user {
            self.head.numbers[CONFIRMED] = None;
        }
        self.head.texts[USER] = user.map(str::to_owned);
        self
    }

    /// When the user last proved who it is.
    pub(crate) fn confirmed(&self) -> Option<SystemTime> {
        self.head.numbers[CONFIRMED].and_then(moment)
    }

    pub(crate) fn set_confirmed(&mut self, now: SystemTime) {
        self.head.numbers[CONFIRMED] = Some(unix_seconds(now));
    }

    /// The Max-Age of the session's cookie, if it has one of its own.
    #[must_use]
    pub fn cookie_life(&self) -> Option<Duration> {
        self.head.numbers[COOKIE_LIFE].map(Duration::from_secs)
    }

    /// Gives the session's cookie a Max-Age of its own and the session at least as long an idle time, or takes
    /// both away. Tells whether that changed something.
    pub(crate) fn set_cookie_life(&mut self, life: Option<Duration>, configured: Duration) -> bool {
        let seconds = life.map(|life| life.as_secs().clamp(1, MAX_TIME));
        let before = std::mem::replace(&mut self.head.numbers[COOKIE_LIFE], seconds);
        let idle = self.head.numbers[TIMEOUT];
        let follows = idle < seconds || (before.is_some() && idle == before);
        (follows && self.set_timeout(life, configured)) || before != seconds
    }

    /// The Max-Age that the session's cookie has.
    pub(crate) fn max_age(&self, config: &Config) -> Option<Duration> {
        self.cookie_life().or(config.cookie_max_age)
    }

    /// When the session's cookie was last sent, if it has a Max-Age.
    pub(crate) fn sent(&self) -> Option<SystemTime> {
        self.head.numbers[SENT].and_then(moment)
    }

    pub(crate) fn set_sent(&mut self, sent: Option<SystemTime>) {
        // Rounded up: it is not sent again too early.
        self.head.numbers[SENT] = sent.map(|sent| unix_seconds(sent).saturating_add(1));
    }

    /// The id that the session had before, while requests under way may show that.
    #[must_use]
    pub fn predecessor(&self) -> Option<SessionDigest> {
        self.predecessors().next()
    }

    /// The ids that the session had before, the newest first.
    pub(crate) fn predecessors(&self) -> impl Iterator<Item = SessionDigest> {
        let digests = self.head.texts[BEFORE].as_deref().unwrap_or_default();
        let digests = digests.split(' ');
        digests.filter_map(|digest| SessionDigest::parse(digest.as_bytes()))
    }

    /// What tells the session that is stored under this id from all others, whichever id it has got since.
    pub(crate) fn lineage(&self, session: &SessionDigest) -> String {
        let first = self.head.texts[FIRST].as_deref();
        first.unwrap_or(session.short_key()).to_owned()
    }

    /// Whether the session that is stored under `session` once had the id `before`, as far as it is known.
    pub(crate) fn was_under(&self, before: &SessionDigest, session: &SessionDigest) -> bool {
        let key = before.short_key();
        self.lineage(session) == key || self.predecessors().any(|it| it.short_key() == key)
    }

    /// The same record under a new id, which takes the place of this one.
    #[must_use]
    pub fn succeeding(mut self, before: &SessionDigest, now: SystemTime) -> Self {
        self.head.texts[FIRST] = Some(self.lineage(before));
        let mut known = before.as_str().to_owned();
        for earlier in self.predecessors().take(MAX_PREDECESSORS - 1) {
            known.push(' ');
            known.push_str(earlier.as_str());
        }
        self.head.texts[BEFORE] = Some(known);
        self.head.numbers[CHANGED] = Some(unix_seconds(now));
        self
    }

    /// When the id was last changed.
    #[must_use]
    pub fn changed(&self) -> Option<SystemTime> {
        self.head.numbers[CHANGED].and_then(moment)
    }

    /// Forgets the ids before when they lead nowhere any more.
    pub(crate) fn forget_predecessors(&mut self, longest: Duration, now: SystemTime) {
        let is_over = self.changed().is_none_or(|changed| {
            let since = now.duration_since(changed);
            since.unwrap_or_else(|ahead| ahead.duration()) > longest
        });
        if is_over {
            self.head.texts[BEFORE] = None;
        }
    }

    /// Whether the session continues under another id, so that this record can only be read, if that.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.head.texts[REPLACED].is_some()
    }

    /// Whether this is no session but the marker of a change of id, which is kept for 60 s under the id
    /// before: it tells a request under way from one whose session has ended.
    ///
    /// A store that lists, counts, copies or evicts sessions passes over it, and [`Store::lock`] and
    /// [`Store::read`] return it.
    ///
    /// [`Store::lock`]: crate::Store::lock
    /// [`Store::read`]: crate::Store::read
    #[must_use]
    pub fn is_marker(&self) -> bool {
        self.head.texts[REPLACED].as_deref() == Some(MARKER)
    }

    /// Whether a change of id has left this by a clock that was far ahead: its end is unknown.
    pub(crate) fn is_left_by_a_wrong_clock(&self, now: SystemTime) -> bool {
        let ahead = self.changed().map(|changed| changed.duration_since(now));
        self.is_replaced() && ahead.is_some_and(|ahead| ahead.is_ok_and(|it| it > MARKER_LIFE))
    }

    /// What a change of id leaves under the id before: a marker, whose only values are the library's own.
    pub(crate) fn marker(&self, notes: Vec<u8>, now: SystemTime) -> Self {
        let mut marker = Record::new(self.created()).with_values(notes);
        marker.head.numbers[CHANGED] = Some(unix_seconds(now));
        marker.head.texts.clone_from(&self.head.texts);
        marker.head.texts[USER] = None;
        marker.head.texts[REPLACED] = Some(MARKER.to_owned());
        marker.head.is_private = self.head.is_private;
        marker.head.numbers[IDLE] = Some(MARKER_LIFE.as_secs());
        marker.ending(now, MARKER_LIFE)
    }

    /// What a change of id with a grace leaves under the id before: all that can be read for so long, and no longer
    /// than the session would live unused. Then it is a marker for the rest of a marker's life.
    pub(crate) fn copy_for(&self, grace: Duration, values: Vec<u8>, now: SystemTime) -> Self {
        let grace = self.idle().map_or(grace, |idle| idle.min(grace));
        let mut copy = self.with_values(values);
        copy.head.texts[REPLACED] = Some(COPY.to_owned());
        let (changed, end) = (unix_seconds(now), end_of(now, grace));
        copy.head.numbers[TIMEOUT] = Some(end.saturating_sub(changed));
        copy.head.numbers[CHANGED] = Some(changed);
        copy.ending(now, grace.max(MARKER_LIFE))
    }

    /// The record as it counts at this moment.
    pub(crate) fn settled(mut self, now: SystemTime) -> Self {
        if self.is_marker_at(now) {
            self.head.texts[REPLACED] = Some(MARKER.to_owned());
            self.head.texts[USER] = None;
        }
        self
    }

    /// Whether it counts as a marker at this moment: so does a copy whose grace is over.
    pub(crate) fn is_marker_at(&self, now: SystemTime) -> bool {
        let is_over = |(changed, grace)| {
            let since = now.duration_since(changed);
            since.is_ok_and(|since| since > grace)
        };
        let grace = self.changed().zip(self.timeout());
        let is_copy = self.head.texts[REPLACED].as_deref() == Some(COPY);
        self.is_marker() || (is_copy && grace.is_some_and(is_over))
    }

    /// Whether only a program that gives the id itself opens it: no cookie, no link and no form does.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.head.is_private
    }

    /// Tells whether that is new.
    pub(crate) fn set_private(&mut self) -> bool {
        !std::mem::replace(&mut self.head.is_private, true)
    }

    /// How many calls for the expired session have failed.
    pub(crate) fn tries(&self) -> u64 {
        self.head.numbers[TRIES].unwrap_or_default()
    }

    /// Notes that so many calls have failed for a session that ended then, which it stays whatever the time of its
    /// file is.
    pub(crate) fn set_tries(&mut self, tries: u64, end: SystemTime) {
        self.head.numbers[TRIES] = Some(tries);
        self.head.numbers[EXPIRES].get_or_insert(unix_seconds(end));
    }

    /// The same record, which ends after `rest`, and not a moment before, and whose end no use moves.
    fn ending(mut self, now: SystemTime, rest: Duration) -> Self {
        let end = end_of(now, rest);
        let expires = &mut self.head.numbers[EXPIRES];
        *expires = Some(expires.map_or(end, |expires| expires.min(end)));
        self
    }

    /// The values as JSON text: an object of applications, each an object of values.
    #[must_use]
    pub fn values(&self) -> &[u8] {
        self.text.get(self.values.clone()).unwrap_or_default()
    }

    /// The same record with other values, given as [`Record::values`] returns them.
    #[must_use]
    pub fn with_values(&self, values: Vec<u8>) -> Self {
        Record {
            head: self.head.clone(),
            values: 0..values.len(),
            text: values,
        }
    }

    /// Whether two records differ in nothing but their values.
    pub(crate) fn has_head_of(&self, other: &Record) -> bool {
        self.head == other.head
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The text may be that of a whole file, with values of before.
        f.debug_struct("Record")
            .field("head", &self.head)
            .field("values", &String::from_utf8_lossy(self.values()))
            .finish_non_exhaustive()
    }
}

/// A moment in seconds since 1970, if the clock can name it.
fn moment(seconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Seconds, rounded up.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    let part = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(part)
}

/// Seconds since 1970, rounded down; a clock before 1970 counts as 1970.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// The second after which a time that begins now is over, and not a moment before.
pub(crate) fn end_of(now: SystemTime, rest: Duration) -> u64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    whole_seconds(since.saturating_add(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_record_reads_back_what_it_wrote() {
        let mut record =
            Record::new(at(1_767_225_600)).with_values(br#"{"":{"pageViews":3}}"#.to_vec());
        assert_eq!(
            record.to_json(),
            br#"{"v":1,"created":1767225600,"values":{"":{"pageViews":3}}}"#
        );
        record.set_timeout(Some(Duration::from_secs(30)), Config::new().timeout);
        let now = at(1_767_225_700);
        let digest = SessionDigest::parse(&[b'a'; SessionDigest::LENGTH]).unwrap();
        let mut full = record.clone();
        full.note_saved_by(&Config::new());
        full.set_sent(Some(now));
        full.set_private();
        let full = full.succeeding(&digest, now);
        for user in ["ada", "b\u{fc}cher", "a\"b\\c", "\u{1}"] {
            let record = record.clone().with_user(Some(user));
            assert_eq!(record.json_len(), record.to_json().len());
            let again = Record::from_json(record.to_json()).unwrap();
            assert_eq!(
                (again.user(), again.values()),
                (Some(user), record.values())
            );
        }
        for record in [
            record,
            full.copy_for(Duration::from_secs(5), full.values().to_vec(), now),
            full.marker(b"{}".to_vec(), now),
            full,
        ] {
            assert_eq!(record.json_len(), record.to_json().len());
            let again = Record::from_json(record.to_json()).unwrap();
            assert!(canonical_head(&record.to_json()).is_some());
            assert!(again.has_head_of(&record));
            assert_eq!(again.values(), record.values());
        }
    }

    #[test]
    fn a_session_is_told_from_others_by_its_first_id_and_knows_the_last_four_before() {
        let digest = |digit: u8| SessionDigest::parse(&[digit; SessionDigest::LENGTH]).unwrap();
        let mut record = Record::new(at(5));
        assert_eq!(record.lineage(&digest(b'0')), "0".repeat(40));
        for before in b'0'..b'6' {
            record = record.succeeding(&digest(before), at(7));
        }
        let left = record.marker(b"{}".to_vec(), at(8));
        for record in [&record, &left] {
            assert_eq!(record.lineage(&digest(b'6')), "0".repeat(40));
            let before: Vec<_> = record.predecessors().collect();
            assert_eq!(before, [b'5', b'4', b'3', b'2'].map(digest));
        }
        record.forget_predecessors(Duration::from_secs(300), at(1000));
        assert_eq!(record.predecessor(), None);
        assert_eq!(record.lineage(&digest(b'6')), "0".repeat(40));
    }

    #[test]
    fn what_a_change_of_id_leaves_ends_when_its_time_is_over_and_not_before() {
        let now = at(100) + Duration::from_millis(700);
        let marker = Record::new(at(5)).marker(b"{}".to_vec(), now);
        assert_eq!(marker.expires(), Some(at(161)));
        let copy = Record::new(at(5)).copy_for(Duration::from_millis(1500), b"{}".to_vec(), now);
        assert_eq!(copy.expires(), Some(at(161)));
        assert!(!copy.clone().settled(at(103)).is_marker());
        assert!(copy.settled(at(104)).is_marker());
    }

    #[test]
    fn a_session_idles_as_long_as_the_most_patient_program_wants_unless_it_has_a_time_of_its_own() {
        let minute = Duration::from_secs(60);
        let config = |timeout, lifetime| {
            let config = Config::new().set("timeout", timeout);
            let config = config.and_then(|config| config.set("lifetime", lifetime));
            config.unwrap()
        };
        let (short, long) = (config("60s", "1h"), config("1h", "2h"));
        let mut record = Record::new(at(5));
        record.note_saved_by(&long);
        record.note_saved_by(&short);
        let mut endless = record.clone();
        endless.note_saved_by(&config("60s", "0"));
        endless.note_saved_by(&short);
        assert_eq!(endless.lifetime(Some(minute)), None);
        assert!(!record.set_timeout(None, 60 * minute));
        assert!(
            record.set_timeout(None, minute),
            "the configuration's is shorter by now"
        );
        assert_eq!(record.idle(), None);
    }

    #[test]
    fn a_session_has_all_of_its_lifetime_in_whichever_part_of_a_second_it_was_made() {
        let (record, lifetime) = (
            Record::new(at(100) + Duration::from_millis(990)),
            Duration::from_secs(1),
        );
        let is_over = |now| record.is_too_old(Some(lifetime), now);
        assert!(!is_over(at(101) + Duration::from_millis(980)));
        assert!(is_over(at(102)));
    }

    #[test]
    fn a_member_of_a_later_release_behind_the_values_is_none_of_them() {
        for values in ["{}", r#"{"":{"a":"}},{"}}"#, r#"{"":{"a":"\\\"}"},"b":{}}"#] {
            for later in [r#"{"x":{}}"#, "{}", "1"] {
                let text = format!(r#"{{"v":1,"created":5,"values":{values},"later":{later}}}"#);
                let record = Record::from_json(text.into_bytes()).unwrap();
                assert_eq!(std::str::from_utf8(record.values()), Ok(values));
                let kept = format!(r#"{{"v":1,"created":5,"later":{later},"values":{values}}}"#);
                assert_eq!(record.with_values(values.into()).to_json(), kept.as_bytes());
            }
            let own = format!(r#"{{"v":1,"created":5,"values":{values}}}"#);
            let record = Record::from_json(own.clone().into_bytes()).unwrap();
            assert_eq!(record.values(), values.as_bytes());
            assert_eq!(record.to_json(), own.as_bytes());
        }
    }

    #[test]
    fn what_stands_beside_a_record_in_its_buffer_is_not_shown() {
        let text = br#"secret{"v":1,"created":5,"values":{"":{"a":1}}}secret"#.to_vec();
        let part = 6..text.len() - 6;
        let shown = format!("{:?}", Record::from_part(text, part).unwrap());
        assert!(shown.contains(":1}}"), "{shown}");
        // Neither as text nor byte by byte.
        let is_hidden = !shown.contains("secret") && !shown.contains("115, 101, 99");
        assert!(is_hidden, "{shown}");
    }

    #[test]
    fn what_is_no_json_or_has_a_member_twice_is_no_record() {
        for text in [
            r#"{"v":1,"created":5,"values":}x{}}"#,
            r#"{"v":1,"created":01,"values":{}}"#,
            r#"{"v":1,"created":1,"user":"a","user":"b","values":{}}"#,
        ] {
            let read = Record::from_json(text.into());
            assert!(matches!(read, Err(RecordError::Malformed(_))), "{text}");
        }
    }
}
