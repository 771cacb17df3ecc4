"""What Redis does in one step: Lua, run by the server."""

from __future__ import annotations

from hashlib import sha1

__all__ = (
    "CLEAR",
    "ENTER",
    "FOLLOW",
    "LEAVE",
    "MEMBERS",
    "PUBLISH",
    "READ",
    "SHOUT",
    "SPUBLISH",
    "TOUCH",
    "Script",
)


class Script:
    """A Lua script and the name by which the server knows it."""

    def __init__(self, *parts: str) -> None:
        self.text = "\n".join(parts).encode()
        self.sha = sha1(self.text, usedforsecurity=False).hexdigest().encode()


_CLOCK = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function failed(reply) return type(reply) == 'table' and reply.err end
-- Lua writes large numbers as 1e+15 if it is not told how.
local function text(number) return string.format('%.0f', number) end
-- Expiry only ever moves away: topics have rules of their own, and nodes may differ.
local function extend(key, ms)
  if ms > 0 and redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end
"""

# A topic is a hash: e epoch, o offset of the last message, k offset from which on all
# are kept, b bytes kept, r the run of the server in which this life began. A server
# that restarts may have lost its last writes, and would give out their offsets again:
# a new run is a new life. The run is asked for here, not by the node: with more than
# one connection a node can hold an old one, and lives would alternate.
_LIFE = """
local run = ''
if ARGV[1] == '1' then
  run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
end
local function load(meta, stream, fresh, known_epoch, known_offset)
  local found = redis.pcall('HMGET', meta, 'e', 'o', 'k', 'b', 'r')
  if not failed(found) and found[1] and found[5] == run then
    local life = {meta = meta, stream = stream, e = found[1],
      o = tonumber(found[2] or ''), k = tonumber(found[3] or ''),
      b = tonumber(found[4] or '')}
    -- A node that has seen more than there is: the end was lost after all.
    local is_short = life.o and life.e == known_epoch
      and life.o < (tonumber(known_offset or '') or 0)
    if life.o and life.k and life.b and not is_short
      and not failed(redis.pcall('XLEN', stream)) then return life end
  end
  if fresh == '' then return nil end
  redis.call('DEL', meta, stream)
  return {meta = meta, stream = stream, e = fresh, o = 0, k = 1, b = 0}
end
local function save(life, keep_ms)
  redis.call('HSET', life.meta, 'e', life.e, 'o', text(life.o), 'k', text(life.k),
    'b', text(life.b), 'r', run)
  extend(life.meta, keep_ms)
end
local function trim(life, max_count, max_bytes)
  local kept = redis.call('XLEN', life.stream)
  while kept > 0 do
    local oldest = redis.call('XRANGE', life.stream, '-', '+', 'COUNT', 1)[1]
    local fields = {}
    for i = 1, #oldest[2], 2 do fields[oldest[2][i]] = oldest[2][i + 1] end
    local expires = tonumber(fields.x or '') or 0
    if expires > now and kept <= max_count and life.b <= max_bytes then return end
    redis.call('XDEL', life.stream, oldest[1])
    kept = kept - 1
    life.b = math.max(0, life.b - (tonumber(fields.n or '') or 0))
    life.k = math.max(life.k, tonumber(string.match(oldest[1], '^%d+')) + 1)
  end
  life.b = 0
  life.k = life.o + 1
end
"""

# KEYS life, stream, channel, and the message id's if there is one
# ARGV strict, fresh epoch, keep (ms), body, size (bytes), history: size, bytes, ttl
#      (ms), how long the id is remembered (ms)
_PUBLISH = (
    _CLOCK,
    _LIFE,
    """
if KEYS[4] then
  local known = redis.pcall('GET', KEYS[4])
  if type(known) == 'string' then
    local epoch, offset = string.match(known, '^(%x+) (%d+)$')
    if epoch then return {epoch, tonumber(offset), 1} end
  end
end
local life = load(KEYS[1], KEYS[2], ARGV[2])
life.o = life.o + 1
if ARGV[6] ~= '0' then
  local id = text(life.o) .. '-0'
  local function add()
    return redis.pcall('XADD', KEYS[2], id, 'd', ARGV[4], 'n', ARGV[5],
      'x', text(now + ARGV[8]))
  end
  local added = add()
  if failed(added) then
    -- Somebody else has written to the stream: what is in it is not ours.
    redis.call('DEL', KEYS[2])
    life.k, life.b = life.o, 0
    added = add()
    if failed(added) then return added end
  end
  life.b = life.b + ARGV[5]
  extend(KEYS[2], tonumber(ARGV[8]))
  trim(life, tonumber(ARGV[6]), tonumber(ARGV[7]))
else
  life.k = life.o + 1 -- what is not kept is a hole in what is
end
save(life, tonumber(ARGV[3]))
if KEYS[4] then
  redis.call('SET', KEYS[4], life.e .. ' ' .. text(life.o), 'PX', ARGV[9])
end
push(KEYS[3], life.e .. ' ' .. text(life.o) .. ' ' .. ARGV[4])
return {life.e, life.o, 0}
""",
)
PUBLISH = Script(
    "local function push(...) redis.call('PUBLISH', ...) end",
    *_PUBLISH,
)

# In a cluster a channel is its slot's, and no pattern covers it. For patterns it goes
# to another one besides, named after this server: PUBLISH tells the whole cluster, and
# who is subscribed on every server is to get it once.
SPUBLISH = Script(
    """
local function push(channel, data)
  redis.call('SPUBLISH', channel, data)
  if redis.call('PUBSUB', 'NUMPAT') > 0 then
    redis.call('PUBLISH', channel .. ' ' .. redis.call('CLUSTER', 'MYID'), data)
  end
end
""",
    *_PUBLISH,
)

# KEYS channel. ARGV data
SHOUT = Script("return redis.call('SPUBLISH', KEYS[1], ARGV[1])")

_ENTRIES = """
local function entries(life, after, limit, reverse)
  if limit == 0 then return {} end
  local command, from, to = 'XRANGE', after, '+'
  if reverse then command, from, to = 'XREVRANGE', '+', after end
  local call = {command, life.stream, from, to}
  if limit > 0 then call[5], call[6] = 'COUNT', limit end
  return redis.call(unpack(call))
end
"""

# KEYS life, stream. ARGV strict, offset after which or '', limit or -1, reverse
READ = Script(
    _CLOCK,
    _LIFE,
    _ENTRIES,
    """
local life = load(KEYS[1], KEYS[2], '')
if not life then return false end
trim(life, math.huge, math.huge)
save(life, 0)
local after = ARGV[2] == '' and '-' or '(' .. ARGV[2] .. '-0'
return {life.e, life.o, life.k,
  entries(life, after, tonumber(ARGV[3]), ARGV[4] == '1')}
""",
)

# KEYS life, stream. ARGV strict, fresh epoch, keep (ms), what the node has seen:
# epoch, offset, and how many messages after that it wants
FOLLOW = Script(
    _CLOCK,
    _LIFE,
    _ENTRIES,
    """
local life = load(KEYS[1], KEYS[2], ARGV[2], ARGV[4], ARGV[5])
trim(life, math.huge, math.huge)
save(life, tonumber(ARGV[3]))
local after = life.e == ARGV[4] and '(' .. ARGV[5] .. '-0' or '-'
return {life.e, life.o, entries(life, after, tonumber(ARGV[6]), false)}
""",
)

# KEYS life and stream of each topic. ARGV strict, fresh epoch, and for each topic: what
# the node has seen: epoch, offset; keep (ms)
TOUCH = Script(
    _CLOCK,
    _LIFE,
    """
local found = {}
for i = 1, #KEYS / 2 do
  local at = 3 * i
  local life = load(KEYS[2 * i - 1], KEYS[2 * i], ARGV[2], ARGV[at], ARGV[at + 1])
  save(life, tonumber(ARGV[at + 2]))
  found[i] = {life.e, life.o}
end
return found
""",
)

# KEYS life, stream. ARGV strict
CLEAR = Script(
    _CLOCK,
    _LIFE,
    """
local life = load(KEYS[1], KEYS[2], '')
if not life then return 0 end
redis.call('DEL', KEYS[2])
life.k, life.b = life.o + 1, 0
save(life, 0)
return 1
""",
)

# A member is a field of a hash, "<joined, µs> <body>"; its lease an entry of a sorted
# set. Both keys go with the last lease.
_LEASES = """
local members, leases = KEYS[1], KEYS[2]
if failed(redis.pcall('HLEN', members)) or failed(redis.pcall('ZCARD', leases)) then
  redis.call('DEL', members, leases)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now)) do
  redis.call('HDEL', members, id)
  redis.call('ZREM', leases, id)
end
"""

# ARGV lease (ms), and for each member: id, body, when it joined or ''
ENTER = Script(
    _CLOCK,
    _LEASES,
    """
local answers = {}
for i = 2, #ARGV, 3 do
  local id, body, joined = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local known = redis.call('ZSCORE', leases, id) and redis.call('HGET', members, id)
  if known then joined = string.match(known, '^(%d+) ') or joined end
  if joined == '' then joined = text(clock[1] * 1000000 + clock[2]) end
  redis.call('HSET', members, id, joined .. ' ' .. body)
  redis.call('ZADD', leases, text(now + ARGV[1]), id)
  answers[#answers + 1] = {known and 0 or 1, joined}
end
extend(members, tonumber(ARGV[1]))
extend(leases, tonumber(ARGV[1]))
return answers
""",
)

# ARGV id
LEAVE = Script(
    _CLOCK,
    _LEASES,
    """
redis.call('HDEL', members, ARGV[1])
return redis.call('ZREM', leases, ARGV[1])
""",
)

MEMBERS = Script(
    _CLOCK,
    _LEASES,
    """
return {redis.call('ZRANGE', leases, 0, -1), redis.call('HGETALL', members)}
""",
)
