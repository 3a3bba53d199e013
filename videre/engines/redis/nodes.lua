-- The nodes of a cluster: who lives, and who is being buried.
-- KEYS, all with one hash tag:
--   nodes      zset  node -> ms of Unix time until which its lease lasts
--   condemned  hash  node -> "open" while its rooms are being reaped, then when that was done
--   rooms      zset  the rooms in which this node may have seats, all with score 0: by name
--   restoring  set   the nodes that have not yet put right all that they have
-- ARGV: op, node, and the op's own.

local NODES, CONDEMNED, ROOMS, RESTORING = unpack(KEYS)
local op, node = ARGV[1], ARGV[2]
local DAY = 86400000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Which process this is: another one may not have all that the one before was told.
local function process()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
end

if op == 'beat' then
  -- Renew a lease. Says how it stood: "new", "ok", or "condemned"; who else needs burying; and who
  -- has yet to put right what it has, as all have whom the store did not know.
  local state = redis.call('HGET', CONDEMNED, node) and 'condemned' or 'ok'
  if state == 'ok' then
    if not redis.call('ZSCORE', NODES, node) then
      state = 'new'
    end
    redis.call('ZADD', NODES, now + tonumber(ARGV[3]), node)
    redis.call((state == 'new' or ARGV[4] == '1') and 'SADD' or 'SREM', RESTORING, node)
  end
  local expired = redis.call('ZRANGEBYSCORE', NODES, '-inf', '(' .. now)
  local open = {}
  local all = redis.call('HGETALL', CONDEMNED)
  for i = 1, #all, 2 do
    if all[i + 1] == 'open' then
      open[#open + 1] = all[i]
    elseif now - tonumber(all[i + 1]) > DAY then
      redis.call('HDEL', CONDEMNED, all[i])
    end
  end
  return {state, expired, open, process(), redis.call('SMEMBERS', RESTORING)}
elseif op == 'note' then
  -- Note that a node may have seats in a room. It has a lease even if the store has lost that: it will
  -- be buried.
  if redis.call('HGET', CONDEMNED, node) then
    return 0
  end
  redis.call('ZADD', NODES, 'NX', now + tonumber(ARGV[4]), node)
  redis.call('ZADD', ROOMS, 0, ARGV[3])
  return 1
elseif op == 'unnote' then
  -- Note that a node has no seats in a room: if this process is the one that knows.
  if process() ~= ARGV[4] then
    return 0
  end
  redis.call('ZREM', ROOMS, ARGV[3])
  return 1
elseif op == 'condemn' then
  -- From here on the node is dead, whatever it says itself; unless its lease was renewed.
  local lease = redis.call('ZSCORE', NODES, node)
  if lease and tonumber(lease) < now then
    redis.call('ZREM', NODES, node)
    redis.call('SREM', RESTORING, node)
    redis.call('HSET', CONDEMNED, node, 'open')
    return 1
  end
  return redis.call('HGET', CONDEMNED, node) == 'open' and 1 or 0
elseif op == 'buried' then
  redis.call('HSET', CONDEMNED, node, now)
end
return 0
