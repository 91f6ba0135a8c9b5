//! [`Scripts`]: what the server does as one step.
//!
//! The first argument of each is the moment until which its caller waits, by the server's clock: who
//! was told that nothing was saved must not have it saved later, by a server that had stood still.
//! The first write of a script is one that a full memory refuses, so that no script ends half-way.

use redis::Script;

pub(super) struct Scripts {
    pub(super) create: Script,
    pub(super) lock: Script,
    pub(super) commit: Script,
    pub(super) touch: Script,
    pub(super) destroy: Script,
    pub(super) unlock: Script,
    pub(super) renew: Script,
    pub(super) expire: Script,
    pub(super) forget: Script,
}

const BEGINNING: &str = r"
local function is_own(holder, token)
    return holder and string.sub(holder, 1, 32) == string.sub(token, 1, 32)
end
local time = redis.call('TIME')
if time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(ARGV[1]) then
    return {'late'}
end
";

/// ARGV: deadline, token, lease, now, version, record, end, used, ttl, user or nothing.
const CREATE: &str = r"
local holder = redis.call('GET', KEYS[2])
local last = redis.call('HGET', KEYS[1], 'end')
local is_there = redis.call('EXISTS', KEYS[1]) == 1
if is_there and holder and is_own(holder, ARGV[2]) then
    return {'done'}
end
if holder or (is_there and tonumber(last or ARGV[4]) >= tonumber(ARGV[4])) then
    return {'taken'}
end
redis.call('HSET', KEYS[1], 'record', ARGV[6], 'end', ARGV[7], 'used', ARGV[8], 'version', ARGV[5])
if ARGV[10] then
    redis.call('HSET', KEYS[1], 'user', ARGV[10])
else
    redis.call('HDEL', KEYS[1], 'user')
end
redis.call('PEXPIRE', KEYS[1], math.max(ARGV[9], ARGV[3]))
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return {'done'}
";

/// ARGV: deadline, token, lease, now. A record that would end in its holder's hands is kept for as long
/// as he may have it.
const LOCK: &str = r"
local found = redis.call('HMGET', KEYS[1], 'record', 'end', 'used', 'version')
if not (found[1] and tonumber(found[2]) and tonumber(found[3]) and found[4]) then
    return {'absent'}
end
local holder = redis.call('GET', KEYS[2])
if holder and not is_own(holder, ARGV[2]) then
    return {'busy', holder}
end
if tonumber(found[2]) < tonumber(ARGV[4]) then
    redis.call('DEL', KEYS[1], KEYS[2])
    return {'absent'}
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
local left = redis.call('PTTL', KEYS[1])
if left >= 0 and left < tonumber(ARGV[3]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return {'yours', found[1], found[2], found[3], found[4]}
";

/// Whether a request may still write over the version that it has loaded. ARGV: deadline, token,
/// lease, version.
const CHECK: &str = r"
local version = redis.call('HGET', KEYS[1], 'version')
local holder = redis.call('GET', KEYS[2])
if not version and (is_own(holder, ARGV[2]) or not holder) then
    return {'gone'}
end
if version ~= ARGV[4] or (holder and not is_own(holder, ARGV[2])) then
    return {'lost'}
end
";

/// ARGV: deadline, token, lease, version, new version, record, end, used, ttl, user or nothing. What
/// is asked for a second time, because the answer was lost, is done.
const COMMIT_AGAIN: &str = r"
if redis.call('HGET', KEYS[1], 'version') == ARGV[5] then
    return {'done'}
end
";
const COMMIT: &str = r"
redis.call('HSET', KEYS[1], 'record', ARGV[6], 'end', ARGV[7], 'used', ARGV[8], 'version', ARGV[5])
if ARGV[10] then
    redis.call('HSET', KEYS[1], 'user', ARGV[10])
else
    redis.call('HDEL', KEYS[1], 'user')
end
redis.call('PEXPIRE', KEYS[1], math.max(ARGV[9], ARGV[3]))
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return {'done'}
";

/// ARGV: deadline, token, lease, version, end, used, ttl.
const TOUCH: &str = r"
redis.call('HSET', KEYS[1], 'end', ARGV[5], 'used', ARGV[6])
redis.call('PEXPIRE', KEYS[1], math.max(ARGV[7], ARGV[3]))
return {'done'}
";

/// ARGV: deadline, token, lease, version.
const DESTROY: &str = r"
redis.call('DEL', KEYS[1], KEYS[2])
return {'done'}
";

/// ARGV: deadline, holder.
const UNLOCK: &str = r"
if is_own(redis.call('GET', KEYS[1]), ARGV[2]) then
    redis.call('DEL', KEYS[1])
end
return {'done'}
";

/// ARGV: deadline, end, new end, used, ttl.
const RENEW: &str = r"
if redis.call('HGET', KEYS[1], 'end') == ARGV[2] then
    redis.call('HSET', KEYS[1], 'end', ARGV[3], 'used', ARGV[4])
    redis.call('PEXPIRE', KEYS[1], math.max(ARGV[5], redis.call('PTTL', KEYS[1])))
end
return {'done'}
";

/// ARGV: deadline, now.
const EXPIRE: &str = r"
local last = tonumber(redis.call('HGET', KEYS[1], 'end') or nil)
if redis.call('EXISTS', KEYS[2]) == 1 then
    return {'busy'}
end
if last and last < tonumber(ARGV[2]) then
    local size = redis.call('HSTRLEN', KEYS[1], 'record')
    redis.call('DEL', KEYS[1])
    return {'done', tostring(size)}
end
return {'live'}
";

/// Takes members out of the index of a user that stood there by a certain time. ARGV: deadline, time,
/// member.
const FORGET: &str = r"
local noted = redis.call('ZSCORE', KEYS[1], ARGV[3])
if noted and tonumber(noted) <= tonumber(ARGV[2]) then
    redis.call('ZREM', KEYS[1], ARGV[3])
end
return {'done'}
";

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |parts: &[&str]| Script::new(&[&[BEGINNING], parts].concat().concat());
        Scripts {
            create: script(&[CREATE]),
            lock: script(&[LOCK]),
            commit: script(&[COMMIT_AGAIN, CHECK, COMMIT]),
            touch: script(&[CHECK, TOUCH]),
            destroy: script(&[CHECK, DESTROY]),
            unlock: script(&[UNLOCK]),
            renew: script(&[RENEW]),
            expire: script(&[EXPIRE]),
            forget: script(&[FORGET]),
        }
    }
}

/// What a script has answered: a word, and what belongs to it.
pub(super) struct Reply(pub(super) Vec<Vec<u8>>);

impl Reply {
    pub(super) fn word(&self) -> &str {
        let word = self.0.first().map(Vec::as_slice).unwrap_or_default();
        std::str::from_utf8(word).unwrap_or_default()
    }

    pub(super) fn part(&self, at: usize) -> Option<&[u8]> {
        self.0.get(at).map(Vec::as_slice)
    }

    pub(super) fn text(&self, at: usize) -> String {
        String::from_utf8_lossy(self.part(at).unwrap_or_default()).into_owned()
    }
}

/// A number as a script's argument.
pub(super) fn number(value: u64) -> Vec<u8> {
    value.to_string().into_bytes()
}
