-- The nodes of a cluster: which are living, and which are being buried.
-- KEYS, all with one hash tag:
--   nodes      hash  node -> its lease, a text that changes with each renewal (see leases.py)
--   condemned  hash  node -> "open" while its rooms are being reaped, then the time of its burial
--   rooms      zset  the rooms in which this node may have seats; all scores 0, so sorted by name
--   restoring  set   the nodes that have not yet restored everything they have
--   format     string  the format that living nodes write, for as long as any lease lasts; a zset:
--              the leases of nodes of the first format, whose beats fail when they find a string
-- ARGV: op, node, the format that it writes, and the op's arguments.

local NODES, CONDEMNED, ROOMS, RESTORING, FORMAT = unpack(KEYS)
local op, node, format = ARGV[1], ARGV[2], ARGV[3]
local DAY = 86400000

-- The time in ms.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The server process: a new one may lack data of the one before.
local function process()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
end

-- Return the format that living nodes write, if different; otherwise make it ours.
local function other_format(lease)
  local kind = redis.call('TYPE', FORMAT).ok
  if kind == 'zset' then
    if redis.call('ZCOUNT', FORMAT, now(), '+inf') > 0 then
      return '1'
    end
    redis.call('DEL', FORMAT)
  elseif kind == 'string' then
    local theirs = redis.call('GET', FORMAT)
    if theirs ~= format then
      return theirs
    end
  end
  if lease > redis.call('PTTL', FORMAT) and lease > 0 then
    redis.call('SET', FORMAT, format, 'PX', lease)
  end
  return nil
end

-- Whether the store is full: it refuses a script's first write if that may take space.
local function is_full()
  local answer = redis.pcall('HSET', NODES, '', '')
  return type(answer) == 'table' and string.find(answer.err, 'OOM', 1, true) and 1 or 0
end

local full = (op == 'beat' or op == 'try') and is_full()
if op ~= 'process' then
  -- The first write of the others, one that takes no space: a full store refuses none after it.
  redis.call('HDEL', NODES, '')
end

if op == 'beat' then
  -- Renew a lease. Returns its state ("new", "ok" or "condemned"), all leases, the nodes to bury,
  -- the process, the nodes that are still restoring, which includes all that the store did not
  -- know, whether the store is full, and the number of rooms noted for this node. Or returns "other"
  -- and the format that other nodes write: then this node has no lease.
  local theirs = other_format(tonumber(string.match(ARGV[4], ':(%d+)$')))
  if theirs then
    return {'other', theirs}
  end
  local state = redis.call('HGET', CONDEMNED, node) and 'condemned' or 'ok'
  if state == 'ok' then
    if redis.call('HSET', NODES, node, ARGV[4]) == 1 then
      state = 'new'
    end
    redis.call((state == 'new' or ARGV[5] == '1') and 'SADD' or 'SREM', RESTORING, node)
  end
  local open = {}
  local all = redis.call('HGETALL', CONDEMNED)
  for i = 1, #all, 2 do
    if all[i + 1] == 'open' then
      open[#open + 1] = all[i]
    elseif now() - tonumber(all[i + 1]) > DAY then
      redis.call('HDEL', CONDEMNED, all[i])
    end
  end
  local living, restoring = redis.call('HGETALL', NODES), redis.call('SMEMBERS', RESTORING)
  return {state, living, open, process(), restoring, full, redis.call('ZCARD', ROOMS)}
elseif op == 'note' then
  -- Note that a node may have seats in a room, unless it has no lease: it is condemned, or the
  -- store has lost data, which its next beat finds. Only a node with a lease can be buried.
  if not redis.call('HGET', NODES, node) then
    return 0
  end
  redis.call('ZADD', ROOMS, 0, ARGV[4])
  return 1
elseif op == 'end' then
  -- The last lease of a stopping node, and all rooms in which it may have seats, in case the store
  -- has lost its notes. If the others have already buried it, they do so again.
  for i = 5, #ARGV do
    redis.call('ZADD', ROOMS, 0, ARGV[i])
  end
  redis.call('SREM', RESTORING, node)
  if redis.call('HGET', CONDEMNED, node) then
    redis.call('HSET', CONDEMNED, node, 'open')
  else
    redis.call('HSET', NODES, node, ARGV[4])
  end
  return 1
elseif op == 'unnote' then
  -- Remove the note that a node has seats in a room, if this process is the one it knows.
  if process() ~= ARGV[5] then
    return 0
  end
  redis.call('ZREM', ROOMS, ARGV[4])
  return 1
elseif op == 'condemn' then
  -- From here on the node is dead, whatever it says itself, unless it has renewed the lease that
  -- was seen to end.
  if redis.call('HGET', NODES, node) == ARGV[4] then
    redis.call('HDEL', NODES, node)
    redis.call('SREM', RESTORING, node)
    redis.call('HSET', CONDEMNED, node, 'open')
    return 1
  end
  return redis.call('HGET', CONDEMNED, node) == 'open' and 1 or 0
elseif op == 'process' then
  return process()
elseif op == 'try' then
  return full
elseif op == 'buried' then
  redis.call('HSET', CONDEMNED, node, now())
end
return 0
