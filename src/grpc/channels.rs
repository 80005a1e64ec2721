//! `ChannelService`: each call decodes, calls a use case and encodes.

use super::admission::caller;
use super::given;
use super::messages::page_size;
use super::status::status;
use crate::auth::{Caller, Right};
use crate::channels::{Channels, Key};
use crate::error::Error;
use crate::pb;
use crate::pb::channel_service_server::ChannelService;
use crate::pb::get_channel_request;
use crate::violation::Violations;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Registry {
    channels: Channels,
    largest_page: usize,
}

impl Registry {
    pub(super) const fn new(channels: Channels, largest_page: usize) -> Self {
        Self { channels, largest_page }
    }

    fn page(&self, caller: &Caller, request: &pb::ListChannelsRequest) -> Result<pb::ListChannelsResponse, Error> {
        caller.may_read_all("all channels")?;
        let pb::ListChannelsRequest { page_size: size, page_token, channel_type } = request;
        let size = page_size(*size, self.largest_page)?;
        let page = self.channels.list(given(channel_type), given(page_token), size)?;
        Ok(pb::ListChannelsResponse { channels: page.channels, next_page_token: page.next.unwrap_or_default() })
    }
}

#[tonic::async_trait]
impl ChannelService for Registry {
    async fn create_channel(
        &self,
        request: Request<pb::CreateChannelRequest>,
    ) -> Result<Response<pb::CreateChannelResponse>, Status> {
        let caller = caller(&request);
        let created = async {
            caller.may(Right::ChangeChannels)?;
            let channel = required(request.into_inner().channel)?;
            self.channels.create(channel, Violations::default()).await
        };
        let channel = created.await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::CreateChannelResponse { channel: Some(channel) }))
    }

    async fn get_channel(&self, request: Request<pb::GetChannelRequest>) -> Result<Response<pb::GetChannelResponse>, Status> {
        let caller = caller(&request);
        let found = match request.into_inner().key {
            Some(get_channel_request::Key::Id(id)) => self.channels.seen(&caller, Key::Id(&id)),
            Some(get_channel_request::Key::ServiceIdentifier(service_identifier)) => {
                self.channels.seen(&caller, Key::ServiceIdentifier(&service_identifier))
            }
            None => Err(Error::InvalidRequest { field: "key", problem: "needs id or service_identifier".into() }),
        };
        let channel = found.map_err(|error| status(&error))?;
        Ok(Response::new(pb::GetChannelResponse { channel: Some(channel) }))
    }

    async fn list_channels(
        &self,
        request: Request<pb::ListChannelsRequest>,
    ) -> Result<Response<pb::ListChannelsResponse>, Status> {
        self.page(&caller(&request), request.get_ref()).map(Response::new).map_err(|error| status(&error))
    }

    async fn update_channel(
        &self,
        request: Request<pb::UpdateChannelRequest>,
    ) -> Result<Response<pb::UpdateChannelResponse>, Status> {
        let caller = caller(&request);
        let updated = async {
            caller.may(Right::ChangeChannels)?;
            let pb::UpdateChannelRequest { channel, update_mask } = request.into_inner();
            let paths = update_mask.unwrap_or_default().paths;
            self.channels.update(required(channel)?, &paths, None, Violations::default()).await
        };
        let channel = updated.await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::UpdateChannelResponse { channel: Some(channel) }))
    }

    async fn delete_channel(
        &self,
        request: Request<pb::DeleteChannelRequest>,
    ) -> Result<Response<pb::DeleteChannelResponse>, Status> {
        caller(&request).may(Right::ChangeChannels).map_err(|error| status(&error))?;
        let pb::DeleteChannelRequest { id, etag } = request.into_inner();
        self.channels.delete(&id, given(&etag)).await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::DeleteChannelResponse {}))
    }
}

fn required(channel: Option<pb::Channel>) -> Result<pb::Channel, Error> {
    channel.ok_or(Error::InvalidRequest { field: "channel", problem: "is required".into() })
}
