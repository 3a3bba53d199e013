-- Checks which commands the user may not run, without running them.
-- ARGV: commands with arguments, each as JSON. Returns the numbers of the forbidden ones.

local forbidden = {}
if redis.acl_check_cmd then  -- since Redis 7
  for number, command in ipairs(ARGV) do
    if not redis.acl_check_cmd(unpack(cjson.decode(command))) then
      forbidden[#forbidden + 1] = number
    end
  end
end
return forbidden
