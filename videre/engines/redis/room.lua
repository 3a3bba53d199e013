-- One room: whatever changes it also publishes the change, in one atomic step. What is published has
-- a number, and that of the message before, so that a gap shows; the last of it is kept, so that who
-- was cut off can catch up. Numbers grow, and are not below the time in microseconds: none is given
-- a second time, even by a store that has lost its latest data.
--
-- KEYS, all with the room's hash tag:
--   room   hash    seq, the number of the last message; born, what it began with; units, packets
--                  that members were told in all;
--                  order, the last place in joining order; tickets, members that have one;
--                  bytes, of the log; name, while there are members
--   seats  hash    user -> seat
--   meta   hash    user -> JSON {n: node, t: ticket, b: units when it was issued, l: lost,
--                  x: seen, g: not all is known}
--   order  zset    user -> place
--   skips  hash    user -> units since its ticket that were not for it
--   lasts  hash    user -> what its last packet was called, as JSON; "": not known
--   log    list    the last messages
-- ARGV: op, channel, the publishing command, ms and bytes of log to keep, the op's own.
--
-- A message is a line of JSON, and a body. Its line, which ends with the number before its own:
--   [seq, "joined", user, seat, node, place]     body: the announcement
--   [seq, "restored", user, seat, node, place]   after a loss of data: known to most
--   [seq, "moved", user, seat, to, node, code]   body: what its last packet was called
--   [seq, "left", user, seat, reason, code, who is promoted]
--   [seq, "sent", user, seat, to]                body: the packet
--   [seq, "state", node, members, born]          for one node; has the number of the last message,
--                                                and none before

local ROOM, SEATS, META, ORDER, SKIPS, LASTS, LOG = unpack(KEYS)
local op, channel, publish, keep_ms, keep_bytes = unpack(ARGV, 1, 5)
local argument = {unpack(ARGV, 6)}

local function field(name)
  return tonumber(redis.call('HGET', ROOM, name) or '0')
end

local function integer(number)
  return string.format('%.0f', number)
end

local function meta_of(user)
  return cjson.decode(redis.call('HGET', META, user) or '{}')
end

local function set_meta(user, meta)
  redis.call('HSET', META, user, cjson.encode(meta))
end

local function last_of(user)
  return redis.call('HGET', LASTS, user) or 'null'
end

local function microseconds()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function make(name)
  if redis.call('EXISTS', SEATS) == 0 then
    if redis.call('EXISTS', ROOM) == 0 then
      local number = integer(microseconds())
      redis.call('HSET', ROOM, 'seq', number, 'born', number)
      redis.call('DEL', LOG)
    end
    redis.call('HSET', ROOM, 'name', name)
    redis.call('PERSIST', ROOM)
  end
end

local function tell(header, body, units)
  local before = field('seq')
  header[1] = integer(math.max(before + 1, microseconds()))
  header[#header + 1] = integer(before)
  redis.call('HSET', ROOM, 'seq', header[1])
  if units > 0 then
    redis.call('HINCRBY', ROOM, 'units', units)
  end
  local message = cjson.encode(header) .. '\n' .. body
  local bytes = #message
  if redis.call('RPUSH', LOG, message) > 1 then
    bytes = bytes + field('bytes')
  end
  local most = tonumber(keep_bytes)
  while most and bytes > most do
    bytes = bytes - #redis.call('LPOP', LOG)
  end
  redis.call('HSET', ROOM, 'bytes', integer(bytes))
  redis.call('PEXPIRE', LOG, keep_ms)
  redis.call(publish, channel, message)
  return header[1]
end

local function members()
  local found = {}
  local places = redis.call('ZRANGE', ORDER, 0, -1, 'WITHSCORES')
  for i = 1, #places, 2 do
    local user = places[i]
    found[#found + 1] = {user, redis.call('HGET', SEATS, user), meta_of(user).n, places[i + 1]}
  end
  return found
end

-- Tell a node the state, unless it knows a state of this room: one with the same first number.
local function tell_state(node, known)
  local born = redis.call('HGET', ROOM, 'born') or ''
  if born ~= '' and born == known then
    return
  end
  local header = {integer(field('seq')), 'state', node, members(), born}
  redis.call(publish, channel, cjson.encode(header) .. '\n')
end

local function issue(user, meta, ticket, skipped)
  if ticket ~= '' then
    if not meta.t then
      redis.call('HINCRBY', ROOM, 'tickets', 1)
    end
    meta.t = ticket
    meta.b = field('units')
    redis.call('HSET', SKIPS, user, skipped)
  end
  meta.l, meta.x, meta.g = nil, nil, nil
  set_meta(user, meta)
end

local function remove(user, seat, reason, code)
  local first = redis.call('ZRANGE', ORDER, 0, 0)[1]
  local ticket = meta_of(user).t
  redis.call('HDEL', SEATS, user)  -- the first write: this one a full store does not refuse
  if ticket then
    redis.call('HINCRBY', ROOM, 'tickets', -1)
  end
  redis.call('HDEL', META, user)
  redis.call('HDEL', SKIPS, user)
  redis.call('HDEL', LASTS, user)
  redis.call('ZREM', ORDER, user)
  local heir = redis.call('ZRANGE', ORDER, 0, 0)[1] or false
  local promoted = first == user and heir
  local seq = tell({0, 'left', user, seat, reason, code, promoted}, '', promoted and 2 or 1)
  return seq
end

-- A room whose last member has left is no more; but its numbers go on if it soon begins anew, for
-- nodes that have not heard of its end.
local function sweep()
  if redis.call('EXISTS', SEATS) == 0 then
    redis.call('DEL', META, ORDER, SKIPS, LASTS)
    redis.call('HDEL', ROOM, 'name')
    redis.call('PEXPIRE', ROOM, keep_ms)
  end
end

-- How many packets of a message a member with a ticket was sent.
local function units_of(header, user)
  local kind = header[2]
  if kind == 'left' then
    return header[7] and 2 or 1
  elseif kind == 'joined' then
    return header[3] ~= user and 1 or 0
  elseif kind == 'sent' and header[3] ~= user then
    if not header[5] then
      return 1
    end
    for _, name in ipairs(header[5]) do
      if name == user then
        return 1
      end
    end
  end
  return 0
end

-- How many packets a message tells members of.
local function packets_of(header)
  local kind = header[2]
  if kind == 'left' then
    return header[7] and 2 or 1
  end
  return (kind == 'joined' or kind == 'sent') and 1 or 0
end

local function line_of(message)
  return cjson.decode(string.sub(message, 1, string.find(message, '\n', 1, true)))
end

local ops = {}

function ops.join(name, user, seat, node, replace, capacity, ticket, born, announcement)
  local held = redis.call('HGET', SEATS, user)
  if held then
    if replace == '0' then
      return {'taken'}
    end
    remove(user, held, 'replaced', 4503)
  elseif capacity ~= '' and redis.call('HLEN', SEATS) >= tonumber(capacity) then
    return {'full'}
  end
  make(name)
  tell_state(node, born)
  local place = redis.call('HINCRBY', ROOM, 'order', 1)
  redis.call('ZADD', ORDER, place, user)
  redis.call('HSET', SEATS, user, seat)
  local seq = tell({0, 'joined', user, seat, node, place}, announcement, 1)
  issue(user, {n = node}, ticket, 0)
  return {'ok', seq}
end

function ops.leave(user, seat, reason, code)
  local held = redis.call('HGET', SEATS, user)
  if not held or (seat ~= '' and seat ~= held) then
    return {'gone'}
  end
  local seq = remove(user, held, reason, code ~= '' and tonumber(code))
  sweep()
  return {'ok', seq}
end

-- `born` is the first number of the room that the sender's node knows. If it is not ours, the store
-- has lost data since, and members may be missing here: a packet would never reach them.
function ops.publish(user, seat, to, last, born, text)
  if born ~= '' and redis.call('HGET', ROOM, 'born') ~= born then
    return {'other'}
  elseif seat ~= '' and redis.call('HGET', SEATS, user) ~= seat then
    return {'gone'}
  elseif redis.call('EXISTS', SEATS) == 0 then
    return {'ok', '0'}
  end
  local names = to ~= '' and cjson.decode(to)
  if field('tickets') > 0 then
    if names then
      local wanted = {}
      for _, name in ipairs(names) do
        wanted[name] = true
      end
      for _, other in ipairs(redis.call('HKEYS', SKIPS)) do
        if other == user or not wanted[other] then
          redis.call('HINCRBY', SKIPS, other, 1)
        end
      end
    elseif user ~= '' then
      redis.call('HINCRBY', SKIPS, user, 1)
    end
  end
  local seq = tell({0, 'sent', user, seat, names}, text, 1)
  if last ~= '' then
    redis.call('HSET', LASTS, user, last)
  end
  return {'ok', seq}
end

function ops.renew(user, seat, to, node, ticket)
  if redis.call('HGET', SEATS, user) ~= seat then
    return {'gone'}
  end
  redis.call('HSET', SEATS, user, to)
  issue(user, meta_of(user), ticket, 0)
  return {'ok', tell({0, 'moved', user, seat, to, node, false}, last_of(user), 0)}
end

function ops.lose(user, seat, seen)
  local meta = meta_of(user)
  if redis.call('HGET', SEATS, user) ~= seat or not meta.t then
    return {'gone'}
  end
  meta.l, meta.x = true, tonumber(seen)
  set_meta(user, meta)
  return {'ok'}
end

function ops.resume(user, to, node, shown, ticket, received, born)
  local seat = redis.call('HGET', SEATS, user)
  if not seat then
    return {'none'}
  end
  local meta = meta_of(user)
  if meta.t ~= shown then
    return {'wrong'}
  end
  local told = field('units') - (meta.b or 0) - tonumber(redis.call('HGET', SKIPS, user) or '0')
  local got = tonumber(received)
  if not got then
    if meta.l then
      got = meta.x
    elseif meta.n == node then
      got = told
    end  -- else what waits at another node is given up with its session: nobody knows how much
  end
  if meta.g or not got then
    return {'gap'}
  end
  local need = math.max(0, told - got)
  local missed, units, at = {}, 0, redis.call('LLEN', LOG)
  while units < need do
    if at == 0 then
      return {'gap'}
    end
    local start = math.max(0, at - 64)
    local some = redis.call('LRANGE', LOG, start, at - 1)
    for i = #some, 1, -1 do
      local line = line_of(some[i])
      if line[2] == 'restored' then -- the store has lost data: what was told is not what is so
        return {'gap'}
      end
      local count = units_of(line, user)
      if count > 0 and units < need then
        units = units + count
        table.insert(missed, 1, some[i])
      end
    end
    at = start
  end
  tell_state(node, born)
  redis.call('HSET', SEATS, user, to)
  meta.n = node
  issue(user, meta, ticket, 0 - need)  -- not -0, which is no integer to Redis
  local seq = tell({0, 'moved', user, seat, to, node, 4503}, last_of(user), 0)
  return {'ok', seq, integer(need), missed}
end

-- Take over what a dead node has left: seats with a ticket live on for their grace.
function ops.reap(dead, node)
  local adopted = {}
  for _, member in ipairs(members()) do
    local user, seat = member[1], member[2]
    if member[3] == dead then
      local meta = meta_of(user)
      if meta.t then
        if not meta.l then
          meta.l, meta.x = true, nil
        end
        meta.n = node
        set_meta(user, meta)
        local to = seat .. '~'
        redis.call('HSET', SEATS, user, to)
        tell({0, 'moved', user, seat, to, node, 4001}, last_of(user), 0)
        adopted[#adopted + 1] = {user, to, meta.t, member[4]}
      else
        remove(user, seat, 'node lost', 4001)
      end
    end
  end
  sweep()
  return {'ok', adopted}
end

-- Make the seats of a node what it says they are: [[user, seat, place, ticket], ...]; with place 0
-- one that it may have by now. `born` is the first number of the room that it knows: if it is ours,
-- no data were lost, and a seat that is not here was given up; "-": it does not want to hear of it.
function ops.restore(name, node, list, born)
  local mine, named, lost = cjson.decode(list), {}, {}
  local is_known = redis.call('HGET', ROOM, 'born') == born
  for _, own in ipairs(mine) do
    named[own[2]] = true
  end
  for _, member in ipairs(members()) do
    if member[3] == node and not named[member[2]] then
      remove(member[1], member[2], 'lost', 4001)
    end
  end
  for _, own in ipairs(mine) do
    local user, place = own[1], tonumber(own[3])
    local held = redis.call('HGET', SEATS, user)
    if not held and place > 0 and not is_known then
      make(name)
      if field('order') < place then
        redis.call('HSET', ROOM, 'order', integer(place))
      end
      redis.call('ZADD', ORDER, place, user)
      redis.call('HSET', SEATS, user, own[2])
      issue(user, {n = node}, own[4], 0)
      redis.call('HSET', LASTS, user, '')
      if own[4] ~= '' then
        local meta = meta_of(user)
        meta.g = true
        set_meta(user, meta)
      end
      tell({0, 'restored', user, own[2], node, place}, '', 0)
    elseif held and not named[held] then
      lost[#lost + 1] = user
    elseif held and not is_known and born ~= '-' then
      -- What this one was told, by the node that does not know our numbers, we have not all counted.
      local meta = meta_of(user)
      if meta.t then
        meta.g = true
        set_meta(user, meta)
      end
    end
  end
  if born ~= '-' then
    tell_state(node, born)
  end
  sweep()
  return {'ok', lost}
end

-- Read the log from its end, until `ends` says of a line that no more is wanted. Returns whether it
-- did, the messages before, and the packets that they tell of.
local function read_back(ends)
  local found, units, at = {}, 0, redis.call('LLEN', LOG)
  while at > 0 do
    local start = math.max(0, at - 64)
    local some = redis.call('LRANGE', LOG, start, at - 1)
    for i = #some, 1, -1 do
      local line = line_of(some[i])
      if ends(line, some[i], found) then
        return true, found, units
      end
      units = units + packets_of(line)
    end
    at = start
  end
  return false, found, units
end

-- What was published after a number, if that is kept. "lost": the store has lost that number, and
-- what is returned was published after it by a store that did not know of it.
function ops.since(seq, born)
  local number, last = tonumber(seq), field('seq')
  local is_known = redis.call('HGET', ROOM, 'born') == born
  if last == 0 or (is_known and last < number) then
    return {'lost', {}}
  elseif is_known and last == number then
    return {'ok', {}}
  end
  local is_lost = not is_known
  local is_whole, found, units = read_back(function(line, message, found)
    if is_known and tonumber(line[1]) <= number then
      is_lost = true
      return true
    end
    found[#found + 1] = message
    return is_known and line[#line] == seq
  end)
  if not is_known then  -- all that was said since the room began anew
    is_whole = units == field('units')
  end
  if not is_whole then
    return {'trimmed'}
  end
  return {is_lost and 'lost' or 'ok', found}
end

function ops.members()
  return redis.call('ZRANGE', ORDER, 0, -1)
end

function ops.name()
  return redis.call('HGET', ROOM, 'name')
end

return ops[op](unpack(argument))
