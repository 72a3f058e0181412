//! LeaveGroup: members that go by themselves, and those whom an admin takes out.

use millstream_protocol::ErrorCode;
use millstream_protocol::messages::LeaveGroupResponse;
use millstream_protocol::messages::leave_group_request::MemberIdentity;
use millstream_protocol::messages::leave_group_response::MemberResponse;

use super::ClassicGroup;
use crate::groups::cause::{Cause, Why, said};
use crate::groups::turn::{Ticket, Turn};

impl ClassicGroup {
    /// A LeaveGroup. All who leave together cost one rebalance; ids that nobody joined with cost none.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>, ticket: Ticket, leaving: &[MemberIdentity]) {
        let (mut first, pending) = (None, self.pending.len());
        let mut members = Vec::with_capacity(leaving.len());
        for member in leaving {
            let code = match self.leave_one(member, turn) {
                Ok(cause) => {
                    first = first.or(cause);
                    ErrorCode::None
                }
                Err(code) => code,
            };
            members.push(MemberResponse {
                member_id: member.member_id.clone(),
                group_instance_id: member.group_instance_id.clone(),
                error_code: code.code(),
            });
        }
        turn.fx.reply(ticket, LeaveGroupResponse { members, ..LeaveGroupResponse::default() });
        match first {
            Some(cause) if !self.is_empty() => self.rebalance_or_complete(cause, turn),
            None if self.pending.len() < pending => self.complete_if_all_joined(turn),
            Some(_) | None => {}
        }
    }

    /// Takes out a member, and says why the others have to join again; or an id that was handed out.
    fn leave_one(
        &mut self,
        leaving: &MemberIdentity,
        turn: &mut Turn<'_>,
    ) -> Result<Option<Cause>, ErrorCode> {
        let instance = leaving.group_instance_id.as_deref();
        let id = match leaving.member_id.is_empty() {
            // An admin knows the name of a static member, not its id.
            true => instance.and_then(|instance| self.members.holder(instance)).cloned(),
            false => Some(leaving.member_id.detach()),
        };
        let id = id.ok_or(ErrorCode::UnknownMemberId)?;
        if !self.pending.contains_key(&id) && !leaving.member_id.is_empty() {
            self.know(&id, instance, turn)?;
        }
        let cause = Cause { said: said(leaving.reason.as_ref()), ..self.cause_of(Why::MemberLeft, &id) };
        Ok(self.take_out(&id, turn).map(|_| cause))
    }
}
