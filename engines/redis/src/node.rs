//! [`Node`]: one server, alone or of a cluster, and the connections to it.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cgi_session::Result;
use cgi_session_kit::name_of_process;
use cgi_session_kit::pool::{Connect, Pool};
use redis::{
    ConnectionInfo, ErrorKind, FromRedisValue, InfoDict, Pipeline, RedisResult, Role,
    ServerErrorKind, ToRedisArgs, Value, from_redis_value, from_redis_value_ref,
};
use scopeguard::{OnSuccess, ScopeGuard, guard_on_success};

use super::failure::of_script;
use super::place::{Address, Place};
use super::record::Field;
use super::scripts::{Reply, Script};

/// A kept connection that does not answer in this time is given up.
const LIVELY: Duration = Duration::from_secs(1);

/// One of several servers that cannot be reached in this time is given up: another may have its place.
const NEAR: Duration = Duration::from_secs(2);

/// The first version that says when its log is on disk.
pub(super) const WAITAOF: (u32, u32) = (7, 2);

/// A server that can be connected to.
pub(super) struct Node {
    pub(super) place: Arc<Place>,
    /// Where it is in a cluster; `None` for the server that `database` or the sentinels name.
    pub(super) address: Option<Address>,
}

pub(super) struct Connection {
    inner: redis::Connection,
    /// What tells this server from others, and from itself before it was restarted; empty when it does not tell.
    pub(super) server: String,
    /// The server's number for it; 0 when it does not tell.
    pub(super) id: u64,
    /// The server's clock in milliseconds since 1970, and when it showed that.
    clock: (u64, Instant),
    has_waitaof: bool,
    /// Whether a replica was connected to the server when it was asked last.
    has_replica: bool,
    /// Whether the server has answered a moment ago, and was asked nothing since.
    is_fresh: bool,
}

/// The connections to one node.
pub(super) type Connections = Arc<Pool<Node>>;

/// A connection, and the pool that keeps it when it is no longer needed.
pub(super) struct Link {
    pub(super) connection: Connection,
    generation: u64,
    pub(super) pool: Connections,
}

/// A connection that is kept when this is dropped, except by a panic, which may leave it out of step.
type Guarded = ScopeGuard<Link, fn(Link), OnSuccess>;

/// The connection for questions that follow each other, if there is one yet.
pub(super) type Kept = Option<Guarded>;

impl Node {
    /// What this one of several servers is called; empty for a server that is alone.
    pub(super) fn name(&self) -> String {
        let address = match &self.place.sentinels {
            Some(sentinels) => sentinels.known(),
            None => self.address.clone(),
        };
        address.map_or_else(String::new, |(host, port)| format!("{host}:{port}"))
    }

    fn open(&self, server: ConnectionInfo) -> RedisResult<Connection> {
        let patience = self.place.patience;
        let is_one = self.place.hosts.is_empty();
        let limit = if is_one { patience } else { patience.min(NEAR) };
        let mut inner = self.place.connect(server, limit)?;
        inner.set_read_timeout(Some(patience))?;
        inner.set_write_timeout(Some(patience))?;
        let mut questions = redis::pipe();
        questions.cmd("CLIENT").arg("ID").cmd("TIME");
        questions.cmd("INFO").arg("server").cmd("ROLE");
        let mut answers = answers::<Value>(&mut inner, &questions)?.into_iter();
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        // A user may have no right to ask for all of that.
        let id = next().ok().and_then(|id| from_redis_value(id).ok());
        let (seconds, micros): (u64, u64) = from_redis_value(next()?)?;
        let about = next().ok().and_then(|about| from_redis_value(about).ok());
        let about = about.unwrap_or_else(|| InfoDict::new(""));
        let role = next().unwrap_or(Value::Nil);
        let is_replica = matches!(from_redis_value_ref(&role), Ok(Role::Replica { .. }));
        if is_replica && self.place.sentinels.is_some() {
            let kind = ErrorKind::Server(ServerErrorKind::ReadOnly);
            return Err((kind, "the sentinels name it, and it is a replica").into());
        }
        let millis = seconds.saturating_mul(1000).saturating_add(micros / 1000);
        Ok(Connection {
            inner,
            server: about.get("run_id").unwrap_or_default(),
            has_waitaof: version(&about) >= WAITAOF,
            has_replica: has_replica(&role),
            id: id.unwrap_or(0),
            clock: (millis, Instant::now()),
            is_fresh: true,
        })
    }
}

impl Connect for Node {
    type Connection = Connection;

    fn connect(&self) -> Result<Connection> {
        let place = &self.place;
        let server = match (&self.address, &place.sentinels) {
            (Some(address), _) => place.at(address),
            (None, Some(sentinels)) => place.at(&sentinels.primary(place)?),
            (None, None) => place.server.clone(),
        };
        let connected = self.open(place.let_in(server)?);
        connected.map_err(|error| self.explain("connect to", &error))
    }

    fn is_alive(&self, connection: &mut Connection) -> bool {
        let inner = &mut connection.inner;
        let answered = inner
            .set_read_timeout(Some(self.place.patience.min(LIVELY)))
            .and_then(|()| redis::cmd("PING").exec(inner));
        connection.is_fresh =
            answered.is_ok() && inner.set_read_timeout(Some(self.place.patience)).is_ok();
        connection.is_fresh
    }
}

impl Link {
    pub(super) fn to(pool: &Connections) -> Result<Self> {
        let (connection, generation) = pool.take()?;
        Ok(Link {
            connection,
            generation,
            pool: Arc::clone(pool),
        })
    }

    /// Keeps the connection for the next use.
    pub(super) fn keep(mut self) {
        self.connection.is_fresh = false;
        self.pool.keep(self.connection, self.generation);
    }

    /// The same, as soon as it is dropped.
    pub(super) fn guarded(self) -> Guarded {
        guard_on_success(self, Link::keep)
    }

    pub(super) fn connection(&mut self) -> &mut redis::Connection {
        self.connection.is_fresh = false;
        &mut self.connection.inner
    }

    fn patience(&self) -> Duration {
        self.pool.engine().place.patience
    }

    /// The same, when the node was told that the next question concerns a key which is about to be its own.
    pub(super) fn announced(mut self) -> RedisResult<Guarded> {
        redis::cmd("ASKING").exec(self.connection())?;
        // Nothing may come between this and the question.
        self.connection.is_fresh = true;
        Ok(self.guarded())
    }

    /// Asks whether the connection has ended before a careful script is sent: when it has, nothing was done.
    pub(super) fn probe(&mut self, script: &Script) -> RedisResult<()> {
        if script.is_careful && !self.connection.is_fresh {
            redis::cmd("PING").exec(self.connection())?;
        }
        Ok(())
    }

    /// Runs a script, which the server may not know yet.
    pub(super) fn run(
        &mut self,
        script: &Script,
        key: &str,
        is_repeated: bool,
        arguments: impl ToRedisArgs,
    ) -> RedisResult<Reply> {
        let (server, id) = (&self.connection.server, self.connection.id);
        let name = format!("{server}:{id}:{}", name_of_process());
        // What the server's clock will show when our patience is at an end. It is not later than that: the clock had
        // gone on when we learned what it showed.
        let (shown, since) = self.connection.clock;
        let deadline = shown.saturating_add(millis(since.elapsed() + self.patience()));
        let mut call = script.code().key(key);
        call.arg((deadline, is_repeated, name, arguments));
        let answer = call.invoke::<Vec<Field>>(self.connection());
        let mut parts = answer.map_err(of_script)?.into_iter();
        let word = parts.next().flatten().unwrap_or_default();
        Ok(Reply {
            word: String::from_utf8_lossy(&word).into_owned(),
            rest: parts.collect(),
            is_repeated,
        })
    }

    /// Waits until what this connection wrote is on disk, where the server can tell, and a replica has it, if
    /// one is connected; `false` when that is not so in time.
    pub(super) fn is_lasting(&mut self) -> RedisResult<bool> {
        // So that its answer comes before we give up.
        let wait = millis(self.patience() * 4 / 5);
        let mut questions = redis::pipe();
        questions.cmd("ROLE");
        if self.connection.has_waitaof {
            questions.cmd("WAITAOF").arg(1).arg(0).arg(wait);
        }
        let mut answers = answers::<Value>(self.connection(), &questions)?.into_iter();
        let has_replica = has_replica(&answers.next().transpose()?.unwrap_or(Value::Nil));
        match answers.next() {
            Some(Ok(answer)) if from_redis_value_ref::<(u64, u64)>(&answer)?.0 == 0 => {
                return Ok(false);
            }
            // Without a log there is nothing to be waited for; `check` says so.
            Some(Err(error)) if error.code() != Some("ERR") => return Err(error),
            _ => {}
        }
        let before = mem::replace(&mut self.connection.has_replica, has_replica);
        if !has_replica {
            // One that has left a moment ago may be the new primary, without what was written here.
            return Ok(!before);
        }
        let mut command = redis::cmd("WAIT");
        let number: u64 = command.arg(1).arg(wait).query(self.connection())?;
        Ok(number > 0)
    }
}

fn has_replica(role: &Value) -> bool {
    let role = from_redis_value_ref(role);
    matches!(role, Ok(Role::Primary { replicas, .. }) if !replicas.is_empty())
}

/// The server's version, of which Valkey tells the Redis that it is compatible with.
pub(super) fn version(about: &InfoDict) -> (u32, u32) {
    let version: String = about.get("redis_version").unwrap_or_default();
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next())
}

/// The answers to these questions, each of which may be an error of its own. The client's own way to ask several
/// waits for each answer, even when the first one does not come.
pub(super) fn answers<T: FromRedisValue>(
    connection: &mut redis::Connection,
    questions: &Pipeline,
) -> RedisResult<Vec<RedisResult<T>>> {
    connection.send_packed_command(&questions.get_packed_pipeline())?;
    let answers = (0..questions.len()).map(|_| {
        let answer = connection.recv_response()?;
        Ok(from_redis_value(answer)?)
    });
    answers.collect()
}

/// A time in milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
