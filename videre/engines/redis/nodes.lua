-- The nodes of a cluster: who lives, and who is being buried.
-- KEYS, all with one hash tag:
--   nodes      zset  node -> ms of Unix time until which its lease lasts
--   condemned  hash  node -> "open" while its rooms are being reaped, then when that was done
-- ARGV: op, node, and the op's own.

local NODES, CONDEMNED = unpack(KEYS)
local op, node = ARGV[1], ARGV[2]
local DAY = 86400000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if op == 'beat' then
  -- Renew a lease. Says how it stood: "new", "ok", or "condemned"; and who else needs burying.
  local state = redis.call('HGET', CONDEMNED, node) and 'condemned' or 'ok'
  if state == 'ok' then
    if not redis.call('ZSCORE', NODES, node) then
      state = 'new'
    end
    redis.call('ZADD', NODES, now + tonumber(ARGV[3]), node)
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
  return {state, expired, open}
elseif op == 'condemn' then
  -- From here on the node is dead, whatever it says itself; unless its lease was renewed.
  local lease = redis.call('ZSCORE', NODES, node)
  if lease and tonumber(lease) < now then
    redis.call('ZREM', NODES, node)
    redis.call('HSET', CONDEMNED, node, 'open')
    return 1
  end
  return redis.call('HGET', CONDEMNED, node) == 'open' and 1 or 0
elseif op == 'buried' then
  redis.call('HSET', CONDEMNED, node, now)
end
return 0
