-- The nodes of a cluster: who lives, and who is being buried.
-- KEYS, all with one hash tag:
--   nodes      hash  node -> its lease, a text that changes when it is renewed (see leases.py)
--   condemned  hash  node -> "open" while its rooms are being reaped, then when that was done
--   rooms      zset  the rooms in which this node may have seats, all with score 0: by name
--   restoring  set   the nodes that have not yet put right all that they have
--   format     string  which format the living nodes write, for as long as any of their leases; a
--              zset: the leases of nodes of the first format, to which a string is an error
-- ARGV: op, node, the format that it writes, and the op's own.

local NODES, CONDEMNED, ROOMS, RESTORING, FORMAT = unpack(KEYS)
local op, node, format = ARGV[1], ARGV[2], ARGV[3]
local DAY = 86400000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Which process this is: another one may not have all that the one before was told.
local function process()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
end

-- Return the format that living nodes write, if that is another one; else it is ours from now on.
local function other_format(lease)
  local kind = redis.call('TYPE', FORMAT).ok
  if kind == 'zset' then
    if redis.call('ZCOUNT', FORMAT, now, '+inf') > 0 then
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

if op == 'beat' then
  -- Renew a lease. Says how it stood: "new", "ok", or "condemned"; all leases; who is to be buried;
  -- and who has yet to put right what it has, as all have whom the store did not know. Or says
  -- "other", and in which format other nodes write: this one has no lease.
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
    elseif now - tonumber(all[i + 1]) > DAY then
      redis.call('HDEL', CONDEMNED, all[i])
    end
  end
  return {state, redis.call('HGETALL', NODES), open, process(), redis.call('SMEMBERS', RESTORING)}
elseif op == 'note' then
  -- Note that a node may have seats in a room. It has a lease even if the store has lost that: it will
  -- be buried.
  if redis.call('HGET', CONDEMNED, node) then
    return 0
  end
  redis.call('HSETNX', NODES, node, ARGV[5])
  redis.call('ZADD', ROOMS, 0, ARGV[4])
  return 1
elseif op == 'end' then
  -- The last lease of a node that ends, and all rooms in which it may have seats: the store may have
  -- lost its notes. If the others have buried it already, they do so once more.
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
  -- Note that a node has no seats in a room: if this process is the one that knows.
  if process() ~= ARGV[5] then
    return 0
  end
  redis.call('ZREM', ROOMS, ARGV[4])
  return 1
elseif op == 'condemn' then
  -- From here on the node is dead, whatever it says itself; unless it has renewed the lease that
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
elseif op == 'buried' then
  redis.call('HSET', CONDEMNED, node, now)
end
return 0
