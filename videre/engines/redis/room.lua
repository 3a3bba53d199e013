-- One room. Each step changes the room and publishes the change, atomically. A message has a
-- number, and that of the message before it, so that a gap shows; the latest are kept, so that nodes
-- that were cut off can catch up. Numbers grow, and are at least the time in microseconds: none is
-- reused, even by a store that lost its latest data.
--
-- KEYS, all with the room's hash tag:
--   room   hash    seq, the number of the last message; born, of the first; name, of the room;
--                  counts: the packets for all members, all packets, the last place in joining
--                  order, the bytes of the log, and the members; or "lost", from when a key was
--                  lost until a member is here again. And for each member:
--                  @user  seat, node and place, a line each: all that a node learns of a room
--                  %user  if it may resume: JSON {t: ticket, g: count incomplete}
--                  +user  if it may resume: packets for all when its ticket was issued; since then
--                         plus one for each that it sent to all, minus one for each addressed to
--                         it by name. Missing: the store has lost data since
--                  =user  the id of its last packet, as JSON; "": unknown; if it has sent any
--   order  zset    user -> place
--   log    list    the latest messages
-- ARGV: op, channel, the publishing command, ms and bytes of log to keep, the op's arguments.
--
-- A message is a line of JSON, and a body. The line ends with the number of the message before:
--   [seq, "joined", user, seat, node, place]     body: the announcement
--   [seq, "restored", node, [[user, seat, place], ...]]   after a loss of data; most nodes still have
--                                                these members
--   [seq, "moved", user, seat, to, node, code]   body: the id of its last packet
--   [seq, "left", user, seat, reason, code, promoted user]
--   [seq, "sent", user, seat, to]                body: the packet
--   [seq, "broken", false, false]                the room lost a key, so everything: see is_broken;
--                                                seq is "0" if it lost all keys
--   [seq, "state", node, born]                   the node gets the current state as its answer; seq
--                                                is the last message's; no number at the end
--
-- This file is arranged for packets: Lua creates every function that a script defines, each time it
-- runs, and that costs more than the commands. So what a packet needs comes first.

local ROOM, ORDER, LOG = unpack(KEYS)
local op, channel, publish, keep_ms, keep_bytes = unpack(ARGV, 1, 5)

-- Which argument of an op is the user that it is about.
local about = ({join = 2, leave = 1, publish = 1, renew = 1, resume = 1})[op]
local user_of_op = about and ARGV[5 + about] or ''

-- All that most steps read: the room's numbers, and the member.
local found = redis.call('HMGET', ROOM, 'seq', 'born', 'counts', '@' .. user_of_op,
  '+' .. user_of_op)
local seq, born = tonumber(found[1] or '0'), found[2] or ''
local is_lost = found[3] == 'lost'
local units, packets, order, bytes, count =
  string.match(found[3] or '', '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
units, packets, order = tonumber(units or '0'), tonumber(packets or '0'), tonumber(order or '0')
bytes, count = tonumber(bytes or '0'), tonumber(count or '0')
local held, skipped = found[4], found[5]

local function integer(number)
  return string.format('%.0f', number)
end

local function microseconds()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- A room with members has both keys, and perhaps a log; one without has at most the first.
-- Otherwise the store has evicted some, or somebody has deleted them. Then none of it can be
-- trusted, and all nodes must restore their seats, as after a loss of all data.
local is_broken = (redis.call('EXISTS', ORDER) == 1) ~= (count > 0)
if is_broken then
  redis.call('DEL', ROOM, ORDER, LOG)
  local number = integer(math.max(seq + 1, microseconds()))
  seq, born, units, packets, order, bytes, count = 0, '', 0, 0, 0, 0, 0
  is_lost, held, skipped = true, false, false
  redis.call('HSET', ROOM, 'counts', 'lost')
  redis.call('PEXPIRE', ROOM, keep_ms)
  redis.call(publish, channel, cjson.encode({number, 'broken', false, false, '0'}) .. '\n')
end

-- Publish a message, and log it. `line` is without its numbers; `more` are fields of the room to
-- set with its numbers. Six commands:
--   TIME     for its number
--   RPUSH    to the log; LPOP beyond the limit
--   HSET     of the numbers: after RPUSH, which is what a full store refuses
--   PEXPIRE  so that the last message is kept as long as any
--   PUBLISH  last, so that nobody hears of a message that is not written
local function tell(line, body, its_units, its_packets, more)
  local before = integer(seq)
  seq = math.max(seq + 1, microseconds())
  units, packets = units + its_units, packets + its_packets
  local number = integer(seq)
  local message = '["' .. number .. '",' .. string.sub(cjson.encode(line), 2, -2) .. ',"' .. before
    .. '"]\n' .. body
  if redis.call('RPUSH', LOG, message) > 1 then
    bytes = bytes + #message
  else
    bytes = #message
  end
  local most = tonumber(keep_bytes)
  while most and bytes > most do
    bytes = bytes - #redis.call('LPOP', LOG)
  end
  -- Without a limit on bytes, what is too old goes, two messages for each new one.
  for _ = 1, most and 0 or 2 do
    local first = tonumber(string.match(redis.call('LRANGE', LOG, 0, 0)[1], '%d+'))
    if first < seq - 1000 * keep_ms then
      bytes = bytes - #redis.call('LPOP', LOG)
    end
  end
  local counts = string.format('%.0f %.0f %.0f %.0f %.0f', units, packets, order, bytes, count)
  if more then
    redis.call('HSET', ROOM, 'seq', number, 'counts', counts, unpack(more))
  else
    redis.call('HSET', ROOM, 'seq', number, 'counts', counts)
  end
  redis.call('PEXPIRE', LOG, keep_ms)
  redis.call(publish, channel, message)
  return number
end

-- `known` is the room's first number as the sender's node knows it. If it is not ours, the store has
-- lost data since, and members may be missing here: a packet would never reach them.
local function is_other(known)
  return is_lost or (known and known ~= '' and known ~= born)
end

-- Whether the user of the op has this seat.
local function has(seat)
  return held and string.sub(held, 1, #seat + 1) == seat .. '\n'
end

-- The fields that count an addressed packet: its receivers that may resume have skipped one less.
-- Lua passes at most some 8,000 arguments to a command. So with more than 1,000 receivers, only the
-- last fields are returned, and the others are set here.
local function fields_of_receivers(user, names)
  local counted, receivers, more = {[user] = true}, {}, {}
  for _, name in ipairs(names) do
    if not counted[name] then
      counted[name] = true
      receivers[#receivers + 1] = '+' .. name
    end
  end
  for from = 1, #receivers, 1000 do
    if #more > 0 then
      redis.call('HSET', ROOM, unpack(more))
      more = {}
    end
    local some = {unpack(receivers, from, math.min(#receivers, from + 999))}
    for i, skips in ipairs(redis.call('HMGET', ROOM, unpack(some))) do
      if skips then
        more[#more + 1] = some[i]
        more[#more + 1] = integer(skips - 1)
      end
    end
  end
  return more
end

local ops = {}

-- A packet for all takes eight commands: HMGET for the numbers, the sender and its count; EXISTS,
-- see is_broken; and those of `tell`, which set what is counted. A packet for some takes one more
-- HMGET.
function ops.publish(user, seat, to, last, text, known)
  if is_other(known) then
    return {'other'}
  elseif seat ~= '' then
    if not has(seat) then
      return {'gone'}
    end
  elseif count == 0 then
    return {'ok', '0'}
  end
  local names = to ~= '' and cjson.decode(to)
  local more
  if names then
    more = fields_of_receivers(user, names)
  elseif skipped then
    more = {'+' .. user, integer(skipped + 1)}
  end
  if last ~= '' and held then
    more = more or {}
    more[#more + 1] = '=' .. user
    more[#more + 1] = last
  end
  return {'ok', tell({'sent', user, seat, names}, text, names and 0 or 1, 1, more)}
end

if op == 'publish' then
  return ops.publish(unpack(ARGV, 6))
end

-- Parse a stored seat: seat, node, and place as a string; nil if the user has none.
local function read_seat(text)
  return string.match(text or '', '^(.-)\n(.-)\n(.*)$')
end

local function seat_of(user)
  return read_seat(redis.call('HGET', ROOM, '@' .. user))
end

local function set_seat(user, seat, node, place)
  redis.call('HSET', ROOM, '@' .. user, seat .. '\n' .. node .. '\n' .. place)
end

local function meta_of(user)
  return cjson.decode(redis.call('HGET', ROOM, '%' .. user) or '{}')
end

local function set_meta(user, meta)
  redis.call('HSET', ROOM, '%' .. user, cjson.encode(meta))
end

local function last_of(user)
  return redis.call('HGET', ROOM, '=' .. user) or 'null'
end

-- The state for a node that does not know this room by its first number (else nil): the number of
-- the last message, the first number, and the users with their stored seats, unordered.
local function state(known)
  if born ~= '' and born == known then
    return nil
  end
  local seats, all = {}, count > 0 and redis.call('HGETALL', ROOM) or {}
  for i = 1, #all, 2 do
    if string.byte(all[i]) == 64 then
      seats[#seats + 1] = string.sub(all[i], 2)
      seats[#seats + 1] = all[i + 1]
    end
  end
  return {integer(seq), born, seats}
end

-- Remove a member. ZRANGE tells who is promoted. HDEL, the first write, is one that a full store
-- does not refuse. PEXPIRE keeps the numbers of a room whose last member left: if the room begins
-- again soon, they continue, for nodes that have not heard of its end.
local function remove(user, seat, reason, code)
  local first = redis.call('ZRANGE', ORDER, 0, 1)
  redis.call('HDEL', ROOM, '@' .. user, '%' .. user, '+' .. user, '=' .. user)
  redis.call('ZREM', ORDER, user)
  count = count - 1
  local promoted = first[1] == user and first[2] or false
  local told = promoted and 2 or 1
  local number = tell({'left', user, seat, reason, code, promoted}, '', told, told)
  if count == 0 then
    redis.call('PEXPIRE', ROOM, keep_ms)
  end
  return number
end

-- A join takes the commands of `tell`, TIME and ZADD; PERSIST in a room without members; DEL of an older
-- log in a room that begins; and HGETALL for a node that does not know the room.
function ops.join(name, user, seat, node, replace, capacity, ticket, known, announcement)
  if held then
    if replace == '0' then
      return {'taken'}
    end
    remove(user, read_seat(held), 'replaced', 4503)
  elseif capacity ~= '' and count >= tonumber(capacity) then
    return {'full'}
  end
  local before = state(known)
  -- At least the time in ms: nobody overtakes members that the store has lost and that come back. 13
  -- digits: cjson keeps 14.
  order = math.max(order + 1, math.floor(microseconds() / 1000))
  -- The first write: a full store refuses it.
  redis.call('ZADD', ORDER, order, user)
  local more = {'@' .. user, seat .. '\n' .. node .. '\n' .. integer(order)}
  if ticket ~= '' then
    more[3], more[4] = '%' .. user, cjson.encode({t = ticket})
    more[5], more[6] = '+' .. user, integer(units + 1)
  end
  local is_woken = count == 0
  if born == '' then
    seq = microseconds()
    born = integer(seq)
    if before then
      before[1], before[2] = born, born
    end
    redis.call('DEL', LOG)
    more[#more + 1], more[#more + 2] = 'born', born
    more[#more + 1], more[#more + 2] = 'name', name
  end
  count = count + 1
  local number = tell({'joined', user, seat, node, order}, announcement, 1, 1, more)
  if is_woken then
    redis.call('PERSIST', ROOM)
  end
  return {'ok', number, before}
end

-- `known` only if another member's end is wanted: whoever gives up its own seat has lost it anyway.
function ops.leave(user, seat, reason, code, known)
  if known and is_other(known) then
    return {'other'}
  end
  local mine = read_seat(held)
  if not mine or (seat ~= '' and seat ~= mine) then
    if born == '' and not is_broken and seat ~= '' then
      -- Its node still had it: the store has lost the whole room.
      redis.call(publish, channel, cjson.encode({'0', 'broken', false, false, '0'}) .. '\n')
    end
    return {'gone'}
  end
  return {'ok', remove(user, mine, reason, code ~= '' and tonumber(code))}
end

if op == 'join' or op == 'leave' then
  return ops[op](unpack(ARGV, 6))
end

-- The rest is rare, and reads and writes as it goes.

-- Prepare a room for its first member. The first write is one that a full store refuses.
local function make(name)
  if count > 0 then
    return
  end
  if born == '' then
    seq = microseconds()
    born = integer(seq)
    redis.call('HSET', ROOM, 'born', born, 'name', name)
    redis.call('DEL', LOG)
  end
  redis.call('PERSIST', ROOM)
end

local function packets_of(line)
  local kind = line[2]
  if kind == 'left' then
    return line[7] and 2 or 1
  end
  return (kind == 'joined' or kind == 'sent') and 1 or 0
end

local function issue(user, meta, ticket, missed)
  if ticket ~= '' then
    meta.t = ticket
    redis.call('HSET', ROOM, '+' .. user, integer(units - missed))
  end
  if meta.t then
    meta.g = nil
    set_meta(user, meta)
  end
end

local function move(user, seat, to, node, place, code)
  set_seat(user, to, node, place)
  return tell({'moved', user, seat, to, node, code}, last_of(user), 0, 0)
end

-- All members in joining order: {user, seat, node, place}.
local function members()
  local all, listed = redis.call('HGETALL', ROOM), {}
  for i = 1, #all, 2 do
    if string.byte(all[i]) == 64 then
      local seat, node, place = read_seat(all[i + 1])
      listed[#listed + 1] = {string.sub(all[i], 2), seat, node, place, tonumber(place)}
    end
  end
  table.sort(listed, function(one, other)
    return one[5] < other[5] or (one[5] == other[5] and one[1] < other[1])
  end)
  return listed
end

-- How many packets a message brought to a member with a ticket.
local function units_of(line, user)
  local kind = line[2]
  if kind == 'left' then
    return line[7] and 2 or 1
  elseif kind == 'joined' then
    return line[3] ~= user and 1 or 0
  elseif kind == 'sent' and line[3] ~= user then
    if not line[5] then
      return 1
    end
    for _, name in ipairs(line[5]) do
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

function ops.renew(user, seat, to, node, ticket, known)
  if is_other(known) then
    return {'other'}
  end
  local mine, _, place = read_seat(held)
  if mine ~= seat then
    return {'gone'}
  end
  issue(user, meta_of(user), ticket, 0)
  return {'ok', move(user, seat, to, node, place, false)}
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
      -- After a loss of data, the log may lack what the user was sent.
      if line[2] == 'restored' then
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

function ops.resume(user, to, node, shown, ticket, received, known)
  local seat, _, place = read_seat(held)
  if not seat then
    return {'none'}
  end
  local meta = meta_of(user)
  if meta.t ~= shown then
    -- Without a count, the store has lost data, and perhaps a later ticket.
    return {meta.t and not skipped and 'none' or 'wrong'}
  end
  if meta.g or not skipped then
    return {'gap'}
  end
  local need = math.max(0, units - tonumber(skipped) - tonumber(received))
  local missed = last_told(user, need)
  if not missed then
    return {'gap'}
  end
  local before = state(known)
  issue(user, meta, ticket, need)
  return {'ok', move(user, seat, to, node, place, 4503), integer(need), missed, before}
end

-- Take over a dead node's seats among the next `most` members in joining order, from a place on;
-- those with a ticket are kept for their grace. Returns where to continue; '' at the end.
function ops.reap(dead, node, from, most)
  local some = redis.call('ZRANGEBYSCORE', ORDER, from, '+inf', 'LIMIT', 0, most)
  local adopted = {}
  -- The first write: a full store refuses none of those after it.
  redis.call('HDEL', ROOM, '')
  local last = #some > 0 and redis.call('ZSCORE', ORDER, some[#some])
  for _, user in ipairs(some) do
    local seat, owner, place = seat_of(user)
    if owner == dead then
      local meta = meta_of(user)
      if meta.t then
        local to = seat .. '~'
        move(user, seat, to, node, place, 4001)
        adopted[#adopted + 1] = {user, to, meta.t, place}
      else
        remove(user, seat, 'node lost', 4001)
      end
    end
  end
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

-- Make a node's seats those in its list, [[user, seat, place, ticket], ...]; place 0 marks a seat
-- that it has asked for and may have been granted. `known` is the room's first number as the node
-- knows it: if it is ours, no data was lost, and a seat missing here was given up; "-": the node
-- wants no state. `leaving` says why the node gives up seats that it still has: {seat: reason, ...}.
-- `uncounted` is '1' if its members have heard packets that are no messages of ours. `adopts` is '1' if
-- the answer to a reap was lost: the node learns of the seats that it adopted, and gives up none.
function ops.restore(name, node, list, known, leaving, uncounted, adopts)
  local mine, named, lost, adopted = cjson.decode(list), {}, {}, {}
  local reasons = cjson.decode(leaving or '{}')
  local is_known = known ~= '' and born == known
  for _, own in ipairs(mine) do
    named[own[2]] = true
  end
  local seats = {}
  for _, member in ipairs(members()) do
    local reason = reasons[member[2]]
    local is_excess = member[3] == node and not named[member[2]]
    local ticket = is_excess and not reason and adopts == '1' and string.sub(member[2], -1) == '~'
      and meta_of(member[1]).t
    if ticket then
      adopted[#adopted + 1] = {member[1], member[2], ticket, member[4]}
    end
    if is_excess and not ticket then
      remove(member[1], member[2], reason or 'lost', not reason and 4001)
    else
      seats[member[1]] = member[2]
    end
  end
  local restored = {}
  for _, own in ipairs(mine) do
    local user, place, held = own[1], tonumber(own[3]), seats[own[1]]
    if not held and place > 0 and not is_known then
      make(name)
      count = count + 1
      order = math.max(order, place)
      redis.call('ZADD', ORDER, place, user)
      set_seat(user, own[2], node, integer(place))
      seats[user] = own[2]
      issue(user, {}, own[4], 0)
      redis.call('HSET', ROOM, '=' .. user, '')
      miscount(user)
      restored[#restored + 1] = {user, own[2], place}
    elseif held and not named[held] then
      lost[#lost + 1] = user
    elseif held and (uncounted == '1' or (not is_known and known ~= '-')) then
      -- We have not counted all packets that the node sent this member; without our numbers, it
      -- cannot tell.
      miscount(user)
    end
  end
  -- A single message, because each makes all nodes go through the whole room.
  if #restored > 0 then
    tell({'restored', node, restored}, '', 0, 0)
  end
  local now = nil
  if known ~= '-' then
    now = state(known)
    if now and born ~= '' then
      local line = cjson.encode({now[1], 'state', node, born})
      redis.call(publish, channel, line .. '\n')
    end
  end
  return {'ok', lost, adopted, now}
end

-- Read the log backwards, until `ends` returns true for a line; it collects messages in its last
-- argument. Returns whether it did, the collected messages, and the number of packets in the lines
-- read before that one.
local function read_back(ends)
  local messages, told, at = {}, 0, redis.call('LLEN', LOG)
  while at > 0 do
    local start = math.max(0, at - 64)
    local some = redis.call('LRANGE', LOG, start, at - 1)
    for i = #some, 1, -1 do
      local line = line_of(some[i])
      if ends(line, some[i], messages) then
        return true, messages, told
      end
      told = told + packets_of(line)
    end
    at = start
  end
  return false, messages, told
end

-- The store has lost its latest data: nobody can tell what its members missed, so their next resume
-- finds a gap.
local function forget_counts()
  for _, field in ipairs(redis.call('HKEYS', ROOM)) do
    if string.byte(field) == 43 then
      redis.call('HDEL', ROOM, field)
    end
  end
end

-- The messages after a number, if kept. "lost": the store has lost that number, and the returned
-- messages were published later by a store that did not know it.
function ops.since(number, known)
  local from = tonumber(number)
  local is_known = born == known
  if seq == 0 or (is_known and seq < from) then
    forget_counts()
    return {'lost', {}}
  elseif is_known and seq == from then
    return {'ok', {}}
  end
  local is_gone = not is_known
  local is_whole, messages, told = read_back(function(line, message, messages)
    if is_known and tonumber(line[1]) <= from then
      is_gone = true
      forget_counts()
      return true
    end
    messages[#messages + 1] = message
    return is_known and line[#line] == number
  end)
  -- For a room that began again: all messages since then.
  if not is_known then
    is_whole = told == packets
  end
  if not is_whole then
    return {'trimmed'}
  end
  return {is_gone and 'lost' or 'ok', messages}
end

function ops.members(known)
  return is_other(known) and {'other'} or {'ok', redis.call('ZRANGE', ORDER, 0, -1)}
end

return ops[op](unpack(ARGV, 6))
