//! Templates: ready-made conditions with blanks. [`catalogue`] has them, [`fill`] fills them in.

mod catalogue;
mod fill;

use segue_proto::audience::v1::{
    FillTemplateRequest, FillTemplateResponse, ListTemplatesRequest, ListTemplatesResponse, Template, TemplateParameter,
};
use segue_runtime::Tenant;

use crate::error::{AudienceError, Kind};
use crate::service::Service;
use catalogue::{Known, TEMPLATES};

impl Service {
    pub(crate) async fn list_templates_of(
        &self,
        _tenant: &Tenant,
        _request: ListTemplatesRequest,
    ) -> Result<ListTemplatesResponse, AudienceError> {
        let templates = TEMPLATES.iter().map(shown).collect::<Result<_, _>>()?;
        Ok(ListTemplatesResponse { templates })
    }

    pub(crate) async fn fill_template_of(
        &self,
        _tenant: &Tenant,
        request: FillTemplateRequest,
    ) -> Result<FillTemplateResponse, AudienceError> {
        let known = TEMPLATES.iter().find(|known| known.id == request.template);
        let known = known.ok_or_else(|| AudienceError::not_found(Kind::Template, request.template))?;
        let (condition, text) = fill::fill(known, &request.parameters)?;
        Ok(FillTemplateResponse { condition: Some(condition), text })
    }
}

fn shown(known: &Known) -> Result<Template, AudienceError> {
    let (condition, text) = fill::fill(known, &std::collections::HashMap::new())?;
    let blank = |blank: &catalogue::Blank| TemplateParameter {
        name: blank.name.to_owned(),
        description: blank.description.to_owned(),
        r#type: blank.kind.name().to_owned(),
        default_value: blank.default.to_owned(),
    };
    Ok(Template {
        id: known.id.to_owned(),
        name: known.name.to_owned(),
        description: known.description.to_owned(),
        parameters: known.blanks.iter().map(blank).collect(),
        condition: Some(condition),
        text,
    })
}
