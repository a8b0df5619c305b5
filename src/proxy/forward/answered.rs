//! What came back of an attempt: an answer, a tunnel, or why there is neither.

use std::time::Instant;

use http::{StatusCode, response};

use super::{Course, Passed, Reply};
use crate::proxy::body::Upload;
use crate::proxy::download::{Download, Opening, Stream};
use crate::proxy::grpc::Call;
use crate::proxy::headers;
use crate::proxy::kept::discard;
use crate::proxy::next::Failure;
use crate::proxy::order::Order;
use crate::proxy::outcome::{Trial, class_of};
use crate::proxy::passage::{Agreed, Passage};
use crate::proxy::refusal::Refusal;
use crate::proxy::stay::OnCanary;
use crate::proxy::upgrade::Asked;
use crate::rollout::slot::Class;
use crate::telemetry::Tally;
use crate::upstream::answer::{Answer, Unanswered};
use crate::upstream::connect::Connection;

impl Course {
    pub(super) fn answered(
        &mut self,
        order: &mut Order,
        mut trial: Trial,
        connection: Connection<Upload>,
        answer: Answer,
        now: Instant,
    ) -> Result<Reply, Failure> {
        for _ in 0..connection.take_informational() {
            self.worker.recorder.tally(Tally::InformationalDropped);
        }
        let Answer {
            head: parts,
            spelling,
            body: incoming,
        } = answer;
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            let reply = self.switched(order, trial, connection, parts, now)?;
            return Ok((reply.0, spelling, reply.1));
        }
        trial.saw(parts.status);
        let is_mistaken = |asked: &Asked| asked.is_mistaken(parts.status);
        if parts.status.is_informational()
            || order.asked.as_ref().is_some_and(is_mistaken)
            || headers::is_ambiguous(&parts)
        {
            trial.fail(None);
            self.tried.push(connection.endpoint().id());
            return Err(Failure::BadAnswer);
        }
        let latency = trial.head_latency(now);
        let call = order
            .is_call
            .then(|| Call::answered(parts.status, &parts.headers));
        let call = call.flatten();
        let errors = self
            .rollout
            .map_or(&[][..], |index| &self.held.rollout(index).error_statuses);
        let class = class_of(parts.status, errors);
        let has_failed =
            parts.status.is_server_error() || call.is_some_and(|call| call.has_failed());
        if has_failed && self.is_replaced(order, now) {
            let class = call.map_or(class, |call| call.class());
            trial.conclude(class, Some(latency), now);
            discard(&self.worker, incoming, connection, now);
            return Err(Failure::Status);
        }
        let source = order.source.clone();
        if let Some(source) = &source {
            source.answered();
        }
        let idle_limit = self.held.pool(self.pool).timeouts.body_idle;
        let is_stream = call.is_some() || headers::is_stream(&parts.headers);
        let stream = is_stream.then(|| Stream::new(self.on_canary(&trial)));
        let shadow = order.shadow.take().filter(|_| !is_stream);
        let shadow = shadow.map(|shadow| shadow.beside(&parts));
        let opening = Opening {
            incoming,
            connection,
            trial,
            source,
            class,
            call,
            latency,
            now,
            idle_limit,
            stream,
            shadow,
        };
        let download = Download::new(&self.worker, opening);
        Ok((parts, spelling, Passed::Download(Box::new(download))))
    }

    // A 101, which has to grant what was asked.
    fn switched(
        &mut self,
        order: &Order,
        mut trial: Trial,
        connection: Connection<Upload>,
        mut parts: response::Parts,
        now: Instant,
    ) -> Result<(response::Parts, Passed), Failure> {
        let granted = order
            .asked
            .as_ref()
            .and_then(|asked| Some((asked, asked.granted(&parts)?)));
        let endpoint = connection.endpoint().id();
        // Only HTTP/1 has a 101, so that there is a connection to take.
        let granted = granted.and_then(|granted| Some((granted, connection.switch()?)));
        let Some(((asked, chosen), (link, endpoint))) = granted else {
            trial.fail(None);
            self.tried.push(endpoint);
            return Err(Failure::BadAnswer);
        };
        headers::strip_answer_hops(&mut parts.headers);
        asked.grant(&mut parts, chosen);
        let agreed = Agreed {
            latency: trial.head_latency(now),
            canary: self.on_canary(&trial),
            trial,
            link,
            endpoint,
            class: Class::Ok,
            now,
        };
        let passage = Passage::new(&self.worker, agreed);
        Ok((parts, Passed::Tunnel(Box::new(passage))))
    }

    // Whom a retreat would take off this pool.
    fn on_canary(&self, trial: &Trial) -> Option<OnCanary> {
        let (index, choice) = self.canary?;
        let rollout = self.held.rollout(index);
        let segment = trial
            .segment()
            .and_then(|id| rollout.meter.segment_name(id));
        Some(OnCanary::new(rollout, choice, segment))
    }

    // Why there is no answer.
    pub(super) fn refused(
        &mut self,
        order: &Order,
        mut trial: Trial,
        connection: &Connection<Upload>,
        unanswered: Unanswered,
    ) -> Failure {
        let Unanswered { error, was_unsent } = unanswered;
        tracing::debug!(%error, endpoint = connection.endpoint().address(), "no answer");
        if let Some(fault) = order.source.as_ref().and_then(|source| source.fault()) {
            trial.withdraw();
            return Failure::Client(fault);
        }
        let refusal = Refusal::of(&error);
        connection.retire();
        let was_unsent = was_unsent && order.is_whole();
        let not_processed = refusal == Refusal::NotProcessed && order.is_whole();
        let is_stale = connection.reused() && !connection.answered() && refusal == Refusal::Broken;
        if is_stale {
            connection.note_stale();
        }
        let goes_again = was_unsent || not_processed || is_stale && order.is_replayable();
        if !self.is_resent && goes_again {
            trial.withdraw();
            self.worker.recorder.tally(Tally::StaleConnection);
            return Failure::Stale;
        }
        trial.fail(None);
        self.tried.push(connection.endpoint().id());
        if was_unsent {
            return Failure::ConnectFailed;
        }
        match refusal {
            Refusal::Malformed => Failure::BadAnswer,
            Refusal::NotTrusted if !connection.reused() => {
                self.worker.recorder.tally(Tally::UpstreamTlsFailed);
                Failure::NotTrusted
            }
            Refusal::NotProcessed | Refusal::Refused if order.is_whole() => Failure::Refused,
            Refusal::NotProcessed | Refusal::Refused | Refusal::NotTrusted | Refusal::Broken => {
                Failure::Reset
            }
        }
    }
}
