-- One room. Each step changes the room and publishes the change, atomically. A message has a
-- number, and that of the message before it, so that a gap shows; the latest are kept, so that nodes
-- that were cut off can catch up. Numbers grow, and are at least the time in microseconds: none is
-- reused, even by a store that lost its latest data.
--
-- KEYS, all with the room's hash tag:
--   room   hash    seq, the number of the last message; born, of the first; units, the packets for
--                  all members; packets, all packets; order, the last place in joining order;
--                  bytes, of the log; name, while there are members; or only lost, from when a key
--                  was lost until a member is here again
--   seats  hash    user -> seat, node and place, a line each: all that a node learns of a room
--   meta   hash    user with a ticket -> JSON {t: ticket, g: count incomplete}
--   order  zset    user -> place
--   skips  hash    user with a ticket -> units when it was issued; since then plus one for each
--                  packet of its own, minus one for each addressed to it by name
--   lasts  hash    user -> id of its last packet, as JSON; "": unknown
--   log    list    the latest messages
-- ARGV: op, channel, the publishing command, ms and bytes of log to keep, the op's arguments.
--
-- A message is a line of JSON, and a body. The line ends with the number of the message before:
--   [seq, "joined", user, seat, node, place]     body: the announcement
--   [seq, "restored", node, [[user, seat, place], ...]]   after a loss of data: known to most
--   [seq, "moved", user, seat, to, node, code]   body: the id of its last packet
--   [seq, "left", user, seat, reason, code, promoted user]
--   [seq, "sent", user, seat, to]                body: the packet
--   [seq, "broken", false, false]                the room lost a key, so everything: see is_broken
--   [seq, "state", node, born]                   the node gets the current state as its answer; seq
--                                                is the last message's, and there is none before

local ROOM, SEATS, META, ORDER, SKIPS, LASTS, LOG = unpack(KEYS)
local op, channel, publish, keep_ms, keep_bytes = unpack(ARGV, 1, 5)
local argument = {unpack(ARGV, 6)}

local function integer(number)
  return string.format('%.0f', number)
end

local function microseconds()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- The room's numbers: read once per step, written by `tell`.
local numbers
do
  local found = redis.call('HMGET', ROOM, 'seq', 'born', 'units', 'packets', 'order', 'bytes',
    'name', 'lost')
  numbers = {
    name = found[7],
    lost = found[8],
    seq = tonumber(found[1] or '0'),
    born = found[2] or '',
    units = tonumber(found[3] or '0'),
    packets = tonumber(found[4] or '0'),
    order = tonumber(found[5] or '0'),
    bytes = tonumber(found[6] or '0'),
  }
end

-- A room with members has all keys but perhaps the log; one without has at most the first.
-- Otherwise the store has evicted some, or somebody has deleted them. Then none of it can be
-- trusted, and all nodes must restore their seats, as after a loss of all data.
local function is_broken()
  local there = redis.call('EXISTS', ROOM, SEATS, META, ORDER, SKIPS, LASTS)
  if there == 6 or there == 0 or (there == 1 and numbers.lost) then
    return false
  end
  return there > 1 or numbers.born == '' or numbers.name
end

if is_broken() then
  redis.call('DEL', ROOM, SEATS, META, ORDER, SKIPS, LASTS, LOG)
  local number = integer(math.max(numbers.seq + 1, microseconds()))
  numbers = {seq = 0, born = '', units = 0, packets = 0, order = 0, bytes = 0, lost = true}
  redis.call('HSET', ROOM, 'lost', 1)
  redis.call('PEXPIRE', ROOM, keep_ms)
  redis.call(publish, channel, cjson.encode({number, 'broken', false, false, '0'}) .. '\n')
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

-- Parse a stored seat: seat, node, and place as a string; nil if the user has none.
local function read_seat(held)
  return string.match(held or '', '^(.-)\n(.-)\n(.*)$')
end

local function seat_of(user)
  return read_seat(redis.call('HGET', SEATS, user))
end

local function set_seat(user, seat, node, place)
  redis.call('HSET', SEATS, user, seat .. '\n' .. node .. '\n' .. place)
end

local function make(name)
  if redis.call('EXISTS', SEATS) == 0 then
    if numbers.born == '' then
      numbers.seq = microseconds()
      numbers.born = integer(numbers.seq)
      redis.call('HSET', ROOM, 'seq', numbers.born, 'born', numbers.born)
      redis.call('HDEL', ROOM, 'lost')
      redis.call('DEL', LOG)
    end
    redis.call('HSET', ROOM, 'name', name)
    redis.call('PERSIST', ROOM)
    redis.call('HSET', META, '', '{}')  -- of nobody: so that each key is there, see is_broken
    redis.call('HSET', SKIPS, '', '0')
    redis.call('HSET', LASTS, '', '')
  end
end

-- How many packets a message brings to members.
local function packets_of(header)
  local kind = header[2]
  if kind == 'left' then
    return header[7] and 2 or 1
  end
  return (kind == 'joined' or kind == 'sent') and 1 or 0
end

-- Publish a message, and log it. Six commands: TIME for its number; RPUSH, and LPOP beyond the
-- limit; HSET of the numbers; PEXPIRE, so that the last message is kept as long as any; PUBLISH.
local function tell(header, body, units)
  local before = numbers.seq
  numbers.seq = math.max(before + 1, microseconds())
  numbers.units = numbers.units + units
  numbers.packets = numbers.packets + packets_of(header)
  header[1] = integer(numbers.seq)
  header[#header + 1] = integer(before)
  local message = cjson.encode(header) .. '\n' .. body
  local bytes = #message
  if redis.call('RPUSH', LOG, message) > 1 then
    bytes = bytes + numbers.bytes
  end
  local most = tonumber(keep_bytes)
  while most and bytes > most do
    bytes = bytes - #redis.call('LPOP', LOG)
  end
  numbers.bytes = bytes
  redis.call('HSET', ROOM, 'seq', header[1], 'units', integer(numbers.units),
    'packets', integer(numbers.packets), 'order', integer(numbers.order), 'bytes', integer(bytes))
  redis.call('PEXPIRE', LOG, keep_ms)
  redis.call(publish, channel, message)
  return header[1]
end

-- All members in joining order: {user, seat, node, place}.
local function members()
  local found, all = {}, redis.call('HGETALL', SEATS)
  for i = 1, #all, 2 do
    local seat, node, place = read_seat(all[i + 1])
    found[#found + 1] = {all[i], seat, node, place, tonumber(place)}
  end
  table.sort(found, function(one, other)
    return one[5] < other[5] or (one[5] == other[5] and one[1] < other[1])
  end)
  return found
end

-- The state for a node that does not know this room by its first number (else nil): the number of
-- the last message, the first number, and the stored seats, unordered.
local function state(known)
  if numbers.born ~= '' and numbers.born == known then
    return nil
  end
  return {integer(numbers.seq), numbers.born, redis.call('HGETALL', SEATS)}
end

local function issue(user, meta, ticket, skipped)
  if ticket ~= '' then
    meta.t = ticket
    redis.call('HSET', SKIPS, user, integer(numbers.units + skipped))
  end
  if meta.t then
    meta.g = nil
    set_meta(user, meta)
  end
end

local function remove(user, seat, reason, code)
  local first = redis.call('ZRANGE', ORDER, 0, 1)
  redis.call('HDEL', SEATS, user)  -- the first write: this one a full store does not refuse
  redis.call('HDEL', META, user)
  redis.call('HDEL', SKIPS, user)
  redis.call('HDEL', LASTS, user)
  redis.call('ZREM', ORDER, user)
  local promoted = first[1] == user and first[2] or false
  return tell({0, 'left', user, seat, reason, code, promoted}, '', promoted and 2 or 1)
end

-- Drop a room whose last member left. Its numbers continue if it begins again soon, for nodes that
-- have not heard of its end.
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

local function line_of(message)
  return cjson.decode(string.sub(message, 1, string.find(message, '\n', 1, true)))
end

local ops = {}

function ops.join(name, user, seat, node, replace, capacity, ticket, born, announcement)
  local held = seat_of(user)
  if held then
    if replace == '0' then
      return {'taken'}
    end
    remove(user, held, 'replaced', 4503)
  elseif capacity ~= '' and redis.call('HLEN', SEATS) >= tonumber(capacity) then
    return {'full'}
  end
  make(name)
  local before = state(born)
  numbers.order = numbers.order + 1
  redis.call('ZADD', ORDER, numbers.order, user)
  set_seat(user, seat, node, integer(numbers.order))
  local seq = tell({0, 'joined', user, seat, node, numbers.order}, announcement, 1)
  issue(user, {}, ticket, 0)
  return {'ok', seq, before}
end

function ops.leave(user, seat, reason, code)
  local held = seat_of(user)
  if not held or (seat ~= '' and seat ~= held) then
    return {'gone'}
  end
  local seq = remove(user, held, reason, code ~= '' and tonumber(code))
  sweep()
  return {'ok', seq}
end

-- Count a packet for those that may resume: for all but its sender, or for the named ones. The cost
-- does not grow with the room. Returns the number of packets for all.
local function count(user, names)
  if not names then
    if user ~= '' and redis.call('HEXISTS', SKIPS, user) == 1 then
      redis.call('HINCRBY', SKIPS, user, 1)
    end
    return 1
  end
  local counted = {[user] = true}
  for _, name in ipairs(names) do
    if not counted[name] and redis.call('HEXISTS', SKIPS, name) == 1 then
      redis.call('HINCRBY', SKIPS, name, -1)
    end
    counted[name] = true
  end
  return 0
end

-- `born` is the room's first number as the sender's node knows it. If it is not ours, the store has
-- lost data since, and members may be missing here: a packet would never reach them.
local function is_other(born)
  return numbers.lost or (born and born ~= '' and born ~= numbers.born)
end

function ops.publish(user, seat, to, last, text, born)
  if is_other(born) then
    return {'other'}
  elseif seat ~= '' then
    if seat_of(user) ~= seat then
      return {'gone'}
    end
  elseif redis.call('EXISTS', SEATS) == 0 then
    return {'ok', '0'}
  end
  local names = to ~= '' and cjson.decode(to)
  local units = count(user, names)
  local seq = tell({0, 'sent', user, seat, names}, text, units)
  if last ~= '' then
    redis.call('HSET', LASTS, user, last)
  end
  return {'ok', seq}
end

function ops.renew(user, seat, to, node, ticket, born)
  if is_other(born) then
    return {'other'}
  end
  local held, _, place = seat_of(user)
  if held ~= seat then
    return {'gone'}
  end
  set_seat(user, to, node, place)
  issue(user, meta_of(user), ticket, 0)
  return {'ok', tell({0, 'moved', user, seat, to, node, false}, last_of(user), 0)}
end

-- The latest messages with `need` packets for a user, in order; nil if not all are kept.
local function last_told(user, need)
  local missed, units, at = {}, 0, redis.call('LLEN', LOG)
  while units < need do
    if at == 0 then
      return nil
    end
    local start = math.max(0, at - 64)
    local some = redis.call('LRANGE', LOG, start, at - 1)
    for i = #some, 1, -1 do
      local line = line_of(some[i])
      if line[2] == 'restored' then  -- the store has lost data: what was told is not what is so
        return nil
      end
      local told = units_of(line, user)
      if told > 0 then
        units = units + told
        missed[#missed + 1] = some[i]
        if units >= need then
          break
        end
      end
    end
    at = start
  end
  for i = 1, math.floor(#missed / 2) do
    missed[i], missed[#missed + 1 - i] = missed[#missed + 1 - i], missed[i]
  end
  return missed
end

function ops.resume(user, to, node, shown, ticket, received, born)
  local seat, _, place = seat_of(user)
  if not seat then
    return {'none'}
  end
  local meta = meta_of(user)
  if meta.t ~= shown then
    return {'wrong'}
  end
  local skipped = redis.call('HGET', SKIPS, user)
  if meta.g or not skipped then
    return {'gap'}
  end
  local need = math.max(0, numbers.units - tonumber(skipped) - tonumber(received))
  local missed = last_told(user, need)
  if not missed then
    return {'gap'}
  end
  local before = state(born)
  set_seat(user, to, node, place)
  issue(user, meta, ticket, 0 - need)
  local seq = tell({0, 'moved', user, seat, to, node, 4503}, last_of(user), 0)
  return {'ok', seq, integer(need), missed, before}
end

-- Take over a dead node's seats among the next `most` members in joining order, from a place on;
-- those with a ticket are kept for their grace. Returns where to continue; '' at the end.
function ops.reap(dead, node, from, most)
  local some = redis.call('ZRANGEBYSCORE', ORDER, from, '+inf', 'LIMIT', 0, most)
  local adopted = {}
  local last = #some > 0 and redis.call('ZSCORE', ORDER, some[#some])
  for _, user in ipairs(some) do
    local seat, owner, place = seat_of(user)
    if owner == dead then
      local meta = meta_of(user)
      if meta.t then
        local to = seat .. '~'
        set_seat(user, to, node, place)
        tell({0, 'moved', user, seat, to, node, 4001}, last_of(user), 0)
        adopted[#adopted + 1] = {user, to, meta.t, place}
      else
        remove(user, seat, 'node lost', 4001)
      end
    end
  end
  sweep()
  if #some < tonumber(most) then
    return {'ok', adopted, ''}
  end
  -- After a loss of data, members may share a place: look at it again, unless all have it.
  return {'ok', adopted, last == from and '(' .. last or last}
end

-- Note that the count of a member's packets is incomplete.
local function miscount(user)
  local meta = meta_of(user)
  if meta.t then
    meta.g = true
    set_meta(user, meta)
  end
end

-- Make a node's seats what it says: [[user, seat, place, ticket], ...]; place 0 marks a seat that
-- it may have by now. `born` is the room's first number as the node knows it: if it is ours, no
-- data was lost, and a seat missing here was given up; "-": the node wants no state.
function ops.restore(name, node, list, born)
  local mine, named, lost = cjson.decode(list), {}, {}
  local is_known = born ~= '' and numbers.born == born
  for _, own in ipairs(mine) do
    named[own[2]] = true
  end
  local seats = {}
  for _, member in ipairs(members()) do
    if member[3] == node and not named[member[2]] then
      remove(member[1], member[2], 'lost', 4001)
    else
      seats[member[1]] = member[2]
    end
  end
  local restored = {}
  for _, own in ipairs(mine) do
    local user, place, held = own[1], tonumber(own[3]), seats[own[1]]
    if not held and place > 0 and not is_known then
      make(name)
      numbers.order = math.max(numbers.order, place)
      redis.call('ZADD', ORDER, place, user)
      set_seat(user, own[2], node, integer(place))
      seats[user] = own[2]
      issue(user, {}, own[4], 0)
      redis.call('HSET', LASTS, user, '')
      miscount(user)
      restored[#restored + 1] = {user, own[2], place}
    elseif held and not named[held] then
      lost[#lost + 1] = user
    elseif held and not is_known and born ~= '-' then
      -- The node did not know our numbers: we have not counted all packets that it sent this
      -- member.
      miscount(user)
    end
  end
  if #restored > 0 then  -- one message: each has all nodes look through the whole room
    tell({0, 'restored', node, restored}, '', 0)
  end
  local now = nil
  if born ~= '-' then
    now = state(born)
    if now and numbers.born ~= '' then
      local line = cjson.encode({now[1], 'state', node, numbers.born})
      redis.call(publish, channel, line .. '\n')
    end
  end
  sweep()
  return {'ok', lost, now}
end

-- Read the log backwards, until `ends` returns true for a line. Returns whether it did, the
-- messages read before, and the number of their packets.
local function read_back(ends)
  local found, packets, at = {}, 0, redis.call('LLEN', LOG)
  while at > 0 do
    local start = math.max(0, at - 64)
    local some = redis.call('LRANGE', LOG, start, at - 1)
    for i = #some, 1, -1 do
      local line = line_of(some[i])
      if ends(line, some[i], found) then
        return true, found, packets
      end
      packets = packets + packets_of(line)
    end
    at = start
  end
  return false, found, packets
end

-- The messages after a number, if kept. "lost": the store has lost that number, and the returned
-- messages were published later by a store that did not know it.
function ops.since(seq, born)
  local number, last = tonumber(seq), numbers.seq
  local is_known = numbers.born == born
  if last == 0 or (is_known and last < number) then
    return {'lost', {}}
  elseif is_known and last == number then
    return {'ok', {}}
  end
  local is_lost = not is_known
  local is_whole, found, packets = read_back(function(line, message, found)
    if is_known and tonumber(line[1]) <= number then
      is_lost = true
      return true
    end
    found[#found + 1] = message
    return is_known and line[#line] == seq
  end)
  if not is_known then  -- all that was said since the room began anew
    is_whole = packets == numbers.packets
  end
  if not is_whole then
    return {'trimmed'}
  end
  return {is_lost and 'lost' or 'ok', found}
end

function ops.members()
  return redis.call('ZRANGE', ORDER, 0, -1)
end

return ops[op](unpack(argument))
