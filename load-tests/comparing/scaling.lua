-- wrk's requests, of so many learners in so many segments, over so many routes: SCALE_LEARNERS, SCALE_SEGMENTS, SCALE_ROUTES.
local function number(name) return tonumber(os.getenv(name) or "1") end
local learners, segments, routes = number("SCALE_LEARNERS"), number("SCALE_SEGMENTS"), number("SCALE_ROUTES")
local n = 0

request = function()
  n = n + 1
  return wrk.format("GET", "/r" .. (n * 7919) % routes .. "/", {
    ["x-learner-id"] = "learner-" .. (n * 7919) % learners,
    ["x-learner-segment"] = "segment-" .. n % segments,
  })
end

done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("requests %d failed %d\n", summary.requests, e.connect + e.read + e.write + e.status + e.timeout))
end
