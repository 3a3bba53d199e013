-- Says which commands its user may not give, without giving them.
-- ARGV: each a command with arguments, as JSON. Returns the numbers of those that are forbidden.

local forbidden = {}
if redis.acl_check_cmd then  -- since Redis 7
  for number, command in ipairs(ARGV) do
    if not redis.acl_check_cmd(unpack(cjson.decode(command))) then
      forbidden[#forbidden + 1] = number
    end
  end
end
return forbidden
