//! FROM, stages and targets.

use serde_json::json;

use crate::case::{Case, case};

pub fn cases() -> Vec<Case> {
    vec![
        case(
            "stage/target-by-name",
            "FROM base AS one\nRUN echo 1 > /1\n\
             FROM base AS two\nRUN echo 2 > /2\n",
        )
        .options(&["--target=one"])
        .file("/1", "text=1\n")
        .absent("/2"),
        case(
            "stage/target-of-another-case",
            "FROM base AS One\nRUN echo 1 > /1\nFROM base\n",
        )
        .options(&["--target=oNe"])
        .file("/1", "text=1\n")
        .docker_says("buildah's --target minds the case"),
        case(
            "stage/target-by-number",
            "FROM base\nRUN echo 0 > /0\nFROM base\nRUN echo 1 > /1\n",
        )
        .options(&["--target=0"])
        .file("/0", "text=0\n")
        .absent("/1")
        .unlike_buildkit("its --target knows only names"),
        case("stage/target-unknown", "FROM base AS one\n")
            .options(&["--target=three"])
            .refused(&["three"]),
        case(
            "stage/unused-does-not-run",
            "FROM base AS broken\nRUN false\n\
             FROM base\nRUN echo ok > /ok\n",
        )
        .file("/ok", "text=ok\n"),
        case(
            "stage/name-hides-an-image",
            "FROM base AS volumes\nRUN echo stage > /stage\n\
             FROM volumes\n",
        )
        .file("/stage", "text=stage\n")
        .config("Volumes", json!(null))
        .unlike_buildkit("it is given images as named contexts, which go before stages"),
        case("stage/name-with-bad-characters", "FROM base AS a/b\n")
            .refused(&["a/b"])
            .docker_says("buildah takes anything for the name of a stage"),
        case(
            "stage/inherits-configuration",
            "FROM base AS one\nENV A=1\nLABEL l=1\n\
             WORKDIR /w\nUSER app\nCMD [\"c\"]\n\
             FROM one\nENV B=$A\n",
        )
        .config("WorkingDir", json!("/w"))
        .config("User", json!("app")),
        case(
            "stage/inherits-arguments",
            "FROM base AS one\nARG A=1\nFROM one\n\
             RUN echo \"<$A>\" > /x\n",
        )
        .file("/x", "text=<1>\n")
        .docker_says("in buildah an ARG ends with its stage"),
        case(
            "stage/same-base-knows-nothing-of-the-other",
            "FROM base AS one\nENV A=1\nFROM base\n\
             RUN echo \"<$A>\" > /x\n",
        )
        .file("/x", "text=<>\n"),
        case(
            "stage/lower-case-words",
            "from base as one\nrun echo 1 > /1\n\
             from one\nrun echo 2 > /2\n",
        )
        .file("/1", "text=1\n"),
        case("stage/on-a-number", "FROM base\nRUN echo 0 > /0\nFROM 0\n")
            .refused(&[])
            .docker_says("buildah takes a number for a stage in FROM"),
        case("stage/scratch-alone", "FROM scratch\n")
            .refused(&["nothing was built"])
            .we_say("an image of nothing at all can only be a mistake"),
        case(
            "stage/scratch-with-configuration",
            "FROM scratch\nENV A=1\nCMD [\"/x\"]\n",
        )
        .config(
            "Env",
            json!([
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "A=1"
            ]),
        ),
        case(
            "stage/scratch-as-a-name",
            "FROM base AS scratch\nRUN echo x > /x\n",
        ),
        case(
            "stage/argument-in-from",
            "ARG BASE=base\nARG TAG\nFROM ${BASE}${TAG:+:$TAG}\n\
             RUN echo ok > /ok\n",
        )
        .options(&["--build-arg=TAG=latest"])
        .file("/ok", "text=ok\n"),
        case(
            "stage/argument-in-from-without-a-value",
            "ARG BASE\nFROM $BASE\n",
        )
        .refused(&[]),
        case(
            "stage/argument-in-the-name-of-a-stage",
            "ARG N=one\nFROM base AS $N\n",
        )
        .refused(&[])
        .docker_says("buildah takes anything for the name of a stage"),
        case(
            "stage/argument-of-a-stage-is-not-for-from",
            "FROM base AS one\nARG B=base\nFROM $B\n",
        )
        .refused(&[]),
        case(
            "stage/image-that-is-unknown",
            "FROM localhost/there-is-none\n",
        )
        .refused(&["there-is-none"]),
        case(
            "stage/image-that-is-unknown-in-a-stage-that-is-not-needed",
            "FROM localhost/there-is-none AS x\n\
             FROM base\nRUN echo ok > /ok\n",
        )
        .file("/ok", "text=ok\n"),
        case(
            "stage/platform-of-the-build",
            "FROM --platform=$BUILDPLATFORM base\n\
             ARG TARGETPLATFORM TARGETOS TARGETARCH BUILDPLATFORM BUILDOS BUILDARCH\n\
             RUN echo $TARGETPLATFORM $TARGETOS $TARGETARCH $BUILDPLATFORM $BUILDOS $BUILDARCH > /x\n",
        ),
        case(
            "stage/platform-arguments-need-arg",
            "FROM base\nRUN echo \"<$TARGETARCH>\" > /x\n",
        )
        .file("/x", "text=<>\n"),
        case(
            "stage/platform-argument-in-from",
            "FROM base AS amd64\nRUN echo amd64 > /x\n\
             FROM base AS arm64\nRUN echo arm64 > /x\n\
             FROM ${TARGETARCH}\nRUN cat /x\n",
        )
        .file("/x", "file")
        .docker_says("buildah's FROM does not know the arguments of the platform"),
        case(
            "stage/copies-from-two",
            "FROM base AS one\nRUN echo 1 > /1\n\
             FROM base AS two\nRUN echo 2 > /2\n\
             FROM scratch\nCOPY --from=one /1 /\n\
             COPY --from=two /2 /\n",
        )
        .file("/1", "text=1\n")
        .file("/2", "text=2\n"),
    ]
}
