-- wrk's requests, each of one of 20,000 learners: wrk -t1 -c16 -d60s -s load-tests/learners.lua http://127.0.0.1:8080/
local n = 0

request = function()
  n = n + 1
  return wrk.format("GET", nil, { ["x-learner-id"] = "learner-" .. (n * 7919) % 20000 })
end

done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("requests %d failed %d\n", summary.requests, e.connect + e.read + e.write + e.status + e.timeout))
end
