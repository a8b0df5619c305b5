-- wrk's requests, each on a connection of its own: a server that does as it is asked closes it behind the answer.
dofile("load-tests/learners.lua")

request = function()
  return wrk.format("GET", nil, { ["x-learner-id"] = "anna", ["connection"] = "close" })
end
