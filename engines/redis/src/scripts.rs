//! [`Scripts`]: what the server does as one step.
//!
//! The first argument of each is the moment until which its caller waits, by the server's clock: what
//! was reported as not saved must not be saved later, by a server that had stood still.
//! The first write of a script is one that a full memory refuses, so that no script ends half-way.
//! Each has one key: what lies on one key can never lie on two nodes of a cluster.

use std::sync::LazyLock;

/// What the server does as one step.
pub(super) struct Script {
    pub(super) code: redis::Script,
    /// Whether it stores or deletes what must not be lost (`durability = data`).
    pub(super) is_lasting: bool,
    /// Whether it must not go to a connection that may have ended: what is not known of it afterwards
    /// cannot be found out.
    pub(super) is_careful: bool,
    /// What is asked instead when it may have been carried out already.
    pub(super) again: Option<Box<Script>>,
}

/// `holder` is the holder of the lock, unless its time is over. `hold` gives it to the caller for so long; a
/// record that would expire meanwhile is kept as long as the lock.
const BEGINNING: &str = r"
local time = redis.call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)
if clock > tonumber(ARGV[1]) then
    return {'late'}
end
local function holder()
    local found = redis.call('HMGET', KEYS[1], 'lock', 'until')
    if found[1] and (tonumber(found[2]) or 0) > clock then
        return found[1]
    end
    return false
end
local function is_own(holder, token)
    return string.sub(holder, 1, 32) == string.sub(token, 1, 32)
end
local function is_anothers(holder, token)
    return holder and not is_own(holder, token)
end
local function hold(token, lease)
    redis.call('HSET', KEYS[1], 'lock', token, 'until', string.format('%.0f', clock + lease))
    local left = redis.call('PTTL', KEYS[1])
    if left >= 0 and left < tonumber(lease) then
        redis.call('PEXPIRE', KEYS[1], lease)
    end
end
local function let_go()
    redis.call('HDEL', KEYS[1], 'lock', 'until')
end
local function keep_or_let_go(token, lease)
    if lease == '0' then
        let_go()
    else
        hold(token, lease)
    end
end
";

/// Stores a record. ARGV: deadline, token, lease, version, new version, record, end, used, ttl, user or
/// nothing. Without a lease the lock is given up.
const STORE_TEXT: &str = r"
redis.call('HSET', KEYS[1], 'record', ARGV[6], 'end', ARGV[7], 'used', ARGV[8], 'version', ARGV[5])
if ARGV[10] then
    redis.call('HSET', KEYS[1], 'user', ARGV[10])
else
    redis.call('HDEL', KEYS[1], 'user')
end
redis.call('PEXPIRE', KEYS[1], ARGV[9])
keep_or_let_go(ARGV[2], ARGV[3])
return {'done'}
";

/// What is asked for a second time, because the answer was lost, is done. It is written once more, for
/// a replica is asked whether it has what this connection wrote. The lock named the old connection;
/// another request may have taken it since, and then has it.
const AGAIN_TEXT: &str = r"
if redis.call('HGET', KEYS[1], 'version') == ARGV[5] then
    redis.call('HSET', KEYS[1], 'version', ARGV[5])
    if not is_anothers(holder(), ARGV[2]) then
        keep_or_let_go(ARGV[2], ARGV[3])
    end
    return {'done'}
end
";

/// ARGV: as of [`STORE_TEXT`], with the time instead of the old version.
const CREATE_TEXT: &str = r"
if redis.call('EXISTS', KEYS[1]) == 1 then
    local last = tonumber(redis.call('HGET', KEYS[1], 'end'))
    if holder() or not last or last >= tonumber(ARGV[4]) then
        return {'taken'}
    end
end
";

/// Whether a record is there that was to be created, when the answer was lost: it is not stored again,
/// for it may have been deleted. ARGV: as of [`CREATE_TEXT`].
const LOOK_TEXT: &str = r"
if redis.call('EXISTS', KEYS[1]) == 1 then
    return {'taken'}
end
return {'absent'}
";

/// ARGV: deadline, token, lease, now.
pub(super) static LOCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[r"
local found = redis.call('HMGET', KEYS[1], 'record', 'end', 'used', 'version')
if not (found[1] and tonumber(found[2]) and tonumber(found[3]) and found[4]) then
    return {'absent'}
end
local holder = holder()
if is_anothers(holder, ARGV[2]) then
    return {'busy', holder}
end
if tonumber(found[2]) < tonumber(ARGV[4]) then
    redis.call('DEL', KEYS[1])
    return {'absent'}
end
hold(ARGV[2], ARGV[3])
return {'yours', found[1], found[2], found[3], found[4]}
"])
});

/// Whether a request may still write over the version that it has loaded: its time may be over, as
/// long as no other came. A version of its own is older than the new one when it was not told of that; it
/// is not when this is an old request to save, which was on its way for long. ARGV: deadline, token,
/// lease, version, new version or another.
const CHECK_TEXT: &str = r"
local version = redis.call('HGET', KEYS[1], 'version')
if not version then
    return {'gone'}
end
local is_expected = version == ARGV[4]
if is_own(version, ARGV[2]) then
    local new = tonumber(string.sub(ARGV[5] or '', 34))
    is_expected = not new or tonumber(string.sub(version, 34)) < new
end
if not is_expected or is_anothers(holder(), ARGV[2]) then
    return {'lost'}
end
";

/// ARGV: deadline, token, lease, version, end, used, ttl.
const TOUCH_TEXT: &str = r"
redis.call('HSET', KEYS[1], 'end', ARGV[5], 'used', ARGV[6])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
hold(ARGV[2], ARGV[3])
return {'done'}
";

/// Holds on to a session that is the caller's still. ARGV: deadline, token, lease, version.
const STAY_TEXT: &str = r"
hold(ARGV[2], ARGV[3])
return {'done'}
";

/// ARGV: deadline, token, lease, version.
const DESTROY_TEXT: &str = r"
redis.call('DEL', KEYS[1])
return {'done'}
";

/// ARGV: deadline, and the holder, or only its token.
pub(super) static UNLOCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[r"
local holder = redis.call('HGET', KEYS[1], 'lock')
if holder and string.sub(holder, 1, string.len(ARGV[2])) == ARGV[2] then
    let_go()
end
return {'done'}
"])
});

/// ARGV: deadline, end, new end, used, ttl.
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[r"
if redis.call('HGET', KEYS[1], 'end') == ARGV[2] then
    redis.call('HSET', KEYS[1], 'end', ARGV[3], 'used', ARGV[4])
    redis.call('PEXPIRE', KEYS[1], math.max(ARGV[5], redis.call('PTTL', KEYS[1])))
end
return {'done'}
"])
});

/// ARGV: deadline, now, and anything when it is only to be said what would be done.
pub(super) static EXPIRE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[r"
local last = tonumber(redis.call('HGET', KEYS[1], 'end'))
if not last or last >= tonumber(ARGV[2]) then
    return {'live'}
end
local holder = holder()
if holder then
    return {'busy', holder}
end
local size = redis.call('HSTRLEN', KEYS[1], 'record')
if not ARGV[3] then
    redis.call('DEL', KEYS[1])
end
return {'done', tostring(size)}
"])
});

/// Takes a session out of the index of a user where it stood by a certain time. ARGV: deadline, time,
/// session.
pub(super) static FORGET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[r"
local noted = redis.call('ZSCORE', KEYS[1], ARGV[3])
if noted and tonumber(noted) <= tonumber(ARGV[2]) then
    redis.call('ZREM', KEYS[1], ARGV[3])
end
return {'done'}
"])
});

/// Holds a key that has no record: until the clean-up is done, or the user's session is stored. ARGV: deadline,
/// token, lease, and anything when nothing but the lock is on the key.
pub(super) static HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[r"
local holder = holder()
if is_anothers(holder, ARGV[2]) then
    return {'busy', holder}
end
hold(ARGV[2], ARGV[3])
if ARGV[4] then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return {'yours'}
"])
});

/// ARGV: deadline, token, and the time when the clean-up came to its end.
pub(super) static END_SWEEP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[r"
if ARGV[3] then
    redis.call('HSET', KEYS[1], 'ended', ARGV[3])
end
if not is_anothers(holder(), ARGV[2]) then
    let_go()
end
return {'done'}
"])
});

pub(super) static CREATE: LazyLock<Script> = LazyLock::new(|| Script {
    is_careful: true,
    again: Some(Box::new(Script::lasting(&[AGAIN_TEXT, LOOK_TEXT]))),
    ..Script::lasting(&[CREATE_TEXT, STORE_TEXT])
});
pub(super) static COMMIT: LazyLock<Script> =
    LazyLock::new(|| Script::lasting(&[AGAIN_TEXT, CHECK_TEXT, STORE_TEXT]));
pub(super) static TOUCH: LazyLock<Script> =
    LazyLock::new(|| Script::new(&[CHECK_TEXT, TOUCH_TEXT]));
pub(super) static CHECK: LazyLock<Script> = LazyLock::new(|| Script::new(&[CHECK_TEXT, STAY_TEXT]));
pub(super) static DESTROY: LazyLock<Script> = LazyLock::new(|| Script {
    is_careful: true,
    ..Script::lasting(&[CHECK_TEXT, DESTROY_TEXT])
});

impl Script {
    fn new(parts: &[&str]) -> Self {
        Script {
            code: redis::Script::new(&[BEGINNING, &parts.concat()].concat()),
            is_lasting: false,
            is_careful: false,
            again: None,
        }
    }

    fn lasting(parts: &[&str]) -> Self {
        Script {
            is_lasting: true,
            ..Script::new(parts)
        }
    }
}

/// What a script has answered: a word, and what belongs to it.
pub(super) struct Reply {
    parts: Vec<Vec<u8>>,
    /// Whether it was asked for before, and may have been carried out then.
    pub(super) is_repeated: bool,
}

impl Reply {
    pub(super) fn new(parts: Vec<Vec<u8>>) -> Self {
        Reply {
            parts,
            is_repeated: false,
        }
    }

    pub(super) fn word(&self) -> &str {
        let word = self.part(0).unwrap_or_default();
        std::str::from_utf8(word).unwrap_or_default()
    }

    pub(super) fn part(&self, at: usize) -> Option<&[u8]> {
        self.parts.get(at).map(Vec::as_slice)
    }

    pub(super) fn into_parts(self) -> impl Iterator<Item = Vec<u8>> {
        self.parts.into_iter()
    }

    pub(super) fn text(&self, at: usize) -> String {
        String::from_utf8_lossy(self.part(at).unwrap_or_default()).into_owned()
    }
}
