//! [`Script`]: what the server does as one step.
//!
//! The first arguments of each are the moment until which its caller waits, by the server's clock, since what
//! was reported as not saved must not be saved later by a server that had stood still; whether it may have been
//! carried out already; and the name of the connection. Those of the caller come next.
//! The first write of a script is one that a full memory refuses, so that no script ends half-way.
//! Each has one key: what lies on one key can never lie on two nodes of a cluster.

use std::sync::OnceLock;

use super::record::Field;

pub(super) struct Script {
    /// What it is for, as errors say it.
    pub(super) action: &'static str,
    parts: &'static [&'static str],
    code: OnceLock<redis::Script>,
    /// Whether it stores or deletes what must not be lost (`durability = data`).
    pub(super) is_lasting: bool,
    /// Whether it must not go to a connection that may have ended: what is not known of it afterwards
    /// cannot be found out.
    pub(super) is_careful: bool,
}

impl Script {
    const fn new(action: &'static str, parts: &'static [&'static str]) -> Self {
        Script {
            action,
            parts,
            code: OnceLock::new(),
            is_lasting: false,
            is_careful: false,
        }
    }

    const fn lasting(mut self) -> Self {
        self.is_lasting = true;
        self
    }

    const fn careful(mut self) -> Self {
        self.is_careful = true;
        self
    }

    pub(super) fn code(&self) -> &redis::Script {
        let text = || [BEGINNING, &self.parts.concat()].concat();
        self.code.get_or_init(|| redis::Script::new(&text()))
    }
}

/// `holder` is the holder of the lock, unless its time is over. `hold` gives it to the caller for so long, and
/// for 0 gives it up; a record that would expire meanwhile is kept as long as the lock.
const BEGINNING: &str = r"
local is_repeated, connection = ARGV[2] == '1', ARGV[3]
local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
if clock > tonumber(ARGV[1]) then
    return {'late'}
end
local function holder()
    local found = redis.call('HMGET', KEYS[1], 'lock', 'until')
    return found[1] and (tonumber(found[2]) or 0) > clock and found[1]
end
local function is_anothers(holder, token)
    return holder and string.sub(holder, 1, 32) ~= token
end
local function hold(token, lease)
    if lease == '0' then
        return redis.call('HDEL', KEYS[1], 'lock', 'until')
    end
    redis.call('HSET', KEYS[1], 'lock', token .. ':' .. connection, 'until', string.format('%.0f', clock + lease))
    local left = redis.call('PTTL', KEYS[1])
    if left >= 0 and left < tonumber(lease) then
        redis.call('PEXPIRE', KEYS[1], lease)
    end
end
";

/// The arguments of what changes a session. Those that a script does not use may be left out from the end.
const CHANGE: &str = r"
local token, lease, version, last, used, ttl, new_version, record, user = unpack(ARGV, 4)
";

/// Stores a record.
const STORE: &str = r"
redis.call('HSET', KEYS[1], 'record', record, 'end', last, 'used', used, 'version', new_version)
if user then
    redis.call('HSET', KEYS[1], 'user', user)
else
    redis.call('HDEL', KEYS[1], 'user')
end
redis.call('PEXPIRE', KEYS[1], ttl)
";

/// What is asked for a second time, because the answer was lost, is done. It is written once more, for
/// a replica is asked whether it has what this connection wrote. The lock named the old connection;
/// another request may have taken it since, and then has it.
const IS_DONE: &str = r"
if redis.call('HGET', KEYS[1], 'version') == new_version then
    redis.call('HSET', KEYS[1], 'version', new_version)
    if not is_anothers(holder(), token) then
        hold(token, lease)
    end
    return {'done'}
end
";

/// The same of what is gone: it is deleted once more.
const IS_GONE: &str = r"
if is_repeated and redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('HSET', KEYS[1], 'version', version)
end
";

/// With the time instead of a version. When the answer was lost, a record is not stored again: it may have been
/// deleted.
const IS_NEW: &str = r"
if redis.call('EXISTS', KEYS[1]) == 1 then
    local ended = tonumber(redis.call('HGET', KEYS[1], 'end'))
    if is_repeated or holder() or not ended or ended >= tonumber(version) then
        return {'taken'}
    end
elseif is_repeated then
    return {'absent'}
end
";

/// Whether a request may still write over the version that it has loaded: its time may be over, as
/// long as no other came. A version of its own is older than the new one when it was not told of that; it
/// is not when this is an old request to save, which was on its way for long.
const IS_UNCHANGED: &str = r"
local stored = redis.call('HGET', KEYS[1], 'version')
if not stored then
    return {'gone'}
end
local is_expected = stored == version
if string.sub(stored, 1, 32) == token then
    local new = tonumber(string.sub(new_version or '', 34))
    is_expected = not new or tonumber(string.sub(stored, 34)) < new
end
if not is_expected or is_anothers(holder(), token) then
    return {'lost'}
end
";

/// Notes a use.
const USE: &str = r"
redis.call('HSET', KEYS[1], 'end', last, 'used', used)
redis.call('PEXPIRE', KEYS[1], ttl)
";

const STAY: &str = r"
hold(token, lease)
return {'done'}
";

const DELETE: &str = r"
redis.call('DEL', KEYS[1])
return {'done'}
";

pub(super) static CREATE: Script = Script::new(
    "store a session in",
    &[CHANGE, IS_DONE, IS_NEW, STORE, STAY],
)
.lasting()
.careful();
pub(super) static COMMIT: Script = Script::new(
    "save a session in",
    &[CHANGE, IS_DONE, IS_UNCHANGED, STORE, STAY],
)
.lasting();
pub(super) static TOUCH: Script = Script::new(
    "renew the time of a session in",
    &[CHANGE, IS_UNCHANGED, USE, STAY],
);
pub(super) static CHECK: Script =
    Script::new("look at a session in", &[CHANGE, IS_UNCHANGED, STAY]);
pub(super) static DESTROY: Script = Script::new(
    "delete a session in",
    &[CHANGE, IS_GONE, IS_UNCHANGED, DELETE],
)
.lasting()
.careful();

pub(super) static LOCK: Script = Script::new(
    "open a session in",
    &[r"
local token, lease, now = unpack(ARGV, 4)
local found = redis.call('HMGET', KEYS[1], 'record', 'end', 'used', 'version')
if not (found[1] and tonumber(found[2]) and tonumber(found[3]) and found[4]) then
    return {'absent'}
end
local holder = holder()
if is_anothers(holder, token) then
    return {'busy', holder}
end
if tonumber(found[2]) < tonumber(now) then
    redis.call('DEL', KEYS[1])
    return {'absent'}
end
hold(token, lease)
return {'yours', unpack(found)}
"],
);

/// For a holder, or only its token.
pub(super) static UNLOCK: Script = Script::new(
    "unlock a session in",
    &[r"
local holder = redis.call('HGET', KEYS[1], 'lock')
if holder and string.sub(holder, 1, string.len(ARGV[4])) == ARGV[4] then
    redis.call('HDEL', KEYS[1], 'lock', 'until')
end
return {'done'}
"],
);

pub(super) static RENEW: Script = Script::new(
    "renew the time of a session in",
    &[r"
local before, last, used, ttl = unpack(ARGV, 4)
if redis.call('HGET', KEYS[1], 'end') == before then
    redis.call('HSET', KEYS[1], 'end', last, 'used', used)
    redis.call('PEXPIRE', KEYS[1], math.max(ttl, redis.call('PTTL', KEYS[1])))
end
return {'done'}
"],
);

/// With anything as the last argument it is only said what would be done.
pub(super) static EXPIRE: Script = Script::new(
    "clean up",
    &[r"
local _, _, now, is_dry_run = unpack(ARGV, 4)
local last = tonumber(redis.call('HGET', KEYS[1], 'end'))
if not last or last >= tonumber(now) then
    return {'live'}
end
local holder = holder()
if holder then
    return {is_dry_run and 'held' or 'busy', holder}
end
local size = redis.call('HSTRLEN', KEYS[1], 'record')
if not is_dry_run then
    redis.call('DEL', KEYS[1])
end
return {'done', tostring(size)}
"],
);

/// Takes a session out of the index of a user where it stood by a certain time.
pub(super) static FORGET: Script = Script::new(
    "clean up",
    &[r"
local limit, session = unpack(ARGV, 4)
local noted = redis.call('ZSCORE', KEYS[1], session)
if noted and tonumber(noted) <= tonumber(limit) then
    redis.call('ZREM', KEYS[1], session)
end
return {'done'}
"],
);

/// Holds a key that has no record.
const HOLD: &str = r"
local token, lease = unpack(ARGV, 4)
local holder = holder()
if is_anothers(holder, token) then
    return {'busy', holder}
end
hold(token, lease)
";

/// Nothing but the lock is on the key.
const ALONE: &str = r"
redis.call('PEXPIRE', KEYS[1], lease)
";

/// Until the clean-up is done.
pub(super) static HOLD_SWEEP: Script = Script::new("clean up", &[HOLD, "return {'yours'}"]);
/// Until the user's session is stored.
pub(super) static HOLD_USER: Script = Script::new(
    "count the sessions of a user in",
    &[HOLD, ALONE, "return {'yours'}"],
);

/// What a script has answered.
pub(super) struct Reply {
    pub(super) word: String,
    /// What belongs to the word.
    pub(super) rest: Vec<Field>,
    /// Whether it was asked for before, and may have been carried out then.
    pub(super) is_repeated: bool,
}
