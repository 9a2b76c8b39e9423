"""Pages, completions, licences and the SBOM of the packages."""

import gzip
import json
import os
import re
import shutil
import tomllib

import pytest
from conftest import PROJECT, run

# Only in builds with the demonstration, in tests, in build scripts, or in the compiler.
NOT_LINKED = ("s3s", "s3s-fs", "rcgen", "criterion", "proptest", "cc", "cmake", "serde_derive", "clap_derive", "syn")
LINKED = ("rustls", "aws-lc-rs", "aws-lc-sys", "tokio-uring", "io-uring", "libmimalloc-sys", "clap", "memchr")


@pytest.mark.parametrize("page", ["man8/filmgate.8.gz", "man5/filmgate.toml.5.gz"])
def test_pages_render_without_warnings(tree, page):
    text = gzip.decompress((tree / "usr/share/man" / page).read_bytes()).decode()
    assert run("mandoc", "-T", "lint", "-W", "warning", input=text) == ""
    assert run("man", "--warnings", "--encoding=UTF-8", "-Tutf8", "-Z", "--local-file", "-", input=text).count("warning") == 0
    shown = re.sub(".\x08", "", run("mandoc", "-T", "utf8", input=text))
    assert "SEE ALSO" in shown


def test_bash_completes_commands_and_options(tree):
    script = tree / "usr/share/bash-completion/completions/filmgate"
    ask = (
        f"set -eu; . {script}; COMP_WORDS=(filmgate pr); COMP_CWORD=1; _filmgate filmgate pr filmgate;"
        ' echo "${COMPREPLY[@]}"; COMP_WORDS=(filmgate check --); COMP_CWORD=2; _filmgate filmgate -- check; echo "${COMPREPLY[@]}"'
    )
    commands, options = run("bash", "--norc", "-c", ask).splitlines()
    assert commands.split() == ["print-default", "presign"]
    assert "--config" in options.split()


def test_zsh_and_fish_read_theirs(tree):
    run("zsh", "-n", tree / "usr/share/zsh/vendor-completions/_filmgate")
    fish = tree / "usr/share/fish/vendor_completions.d/filmgate.fish"
    offered = run("fish", "--no-config", "-c", f"source {fish}; complete --do-complete 'filmgate pr'")
    assert {line.split()[0] for line in offered.splitlines()} == {"print-default", "presign"}


def test_the_copyright_file_has_every_crate_and_every_text(tree):
    text = (tree / "usr/share/doc/filmgate/copyright").read_text()
    paragraphs = [dict(re.findall(r"^([A-Z][\w-]*): ?(.*)", part, re.M)) for part in text.split("\n\n")]
    assert paragraphs[0]["Format"] == "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/"
    crates = {part["Files"] for part in paragraphs if part.get("Files", "").startswith("crates/")}
    names = {name.removeprefix("crates/").rsplit("-", 1)[0].removesuffix("+spec") for name in crates}
    for name in LINKED:
        assert any(re.match(rf"crates/{name}-\d", crate) for crate in crates), name
    for name in NOT_LINKED:
        assert not any(re.match(rf"crates/{name}-\d", crate) for crate in crates), name
    assert len(names) > 100
    # Each licence that a crate has is spelled out: with the crate, or once for all.
    alone = {part["License"] for part in paragraphs if "License" in part and "Files" not in part}
    for part in text.split("\n\n"):
        if not part.startswith("Files:"):
            continue
        fields = dict(re.findall(r"^([A-Z][\w-]*): ?(.*)", part, re.M))
        assert fields["Copyright"].strip(), part
        has_text = re.search(r"^License: .*\n ", part, re.M)
        assert has_text or set(re.split(r" or | and ", fields["License"])) <= alone, part
    assert "\n // " not in text and "ICU4X may have" not in text.split("\nLicense: Unicode-3.0\n")[-1]
    assert {"MIT", "Unicode-3.0", "Apache-2.0-with-LLVM-exception"} <= alone
    library = [part["Files"] for part in paragraphs if part.get("Files", "").startswith("rust-")]
    assert any("/vendor/hashbrown-" in files for files in library), library
    assert not any("windows" in files or "sgx" in files for files in library), library
    # No stanza is made of a sentence of a licence.
    assert not re.search(r"^Copyright: .*(You must|notice|\bshall\b|hereby)", text, re.M)


def test_the_sbom_names_what_is_linked_with_its_checksum(tree):
    bom = json.loads((tree / "usr/share/doc/filmgate/sbom.cdx.json").read_text())
    assert (bom["bomFormat"], bom["specVersion"], bom["version"]) == ("CycloneDX", "1.5", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bom["serialNumber"])
    names = {component["name"] for component in bom["components"]}
    assert set(LINKED) <= names and not set(NOT_LINKED) & names
    references = [component["bom-ref"] for component in [bom["metadata"]["component"], *bom["components"]]]
    assert len(references) == len(set(references))
    assert {entry["ref"] for entry in bom["dependencies"]} == set(references)
    assert {to for entry in bom["dependencies"] for to in entry["dependsOn"]} <= set(references)
    locked = tomllib.loads((PROJECT / "Cargo.lock").read_text())["package"]
    sums = {(package["name"], package["version"]): package.get("checksum") for package in locked}
    inside = {inner["name"]: inner for component in bom["components"] for inner in component.get("components", [])}
    assert set(inside) == {"aws-lc", "mimalloc"}
    for name, library in inside.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", library["version"]), name
        assert library["purl"].endswith(f"/{name}@v{library['version']}") and f":{name}:{library['version']}:" in library["cpe"]
    for component in bom["components"]:
        if component["name"] != "rust-std":
            assert component["hashes"][0]["content"] == sums[component["name"], component["version"]]
        assert component["licenses"][0]["expression"]


def test_the_steps_of_the_image_make_a_root_in_which_the_program_runs(deb, tmp_path):
    """The image cannot be built here, but its steps can be taken, and the program be started in what they leave."""
    text = (PROJECT / "packaging/oci/Containerfile").read_text().replace("\\\n", " ")
    first, *steps = re.findall(r"^RUN (.*)", text, re.M)
    assert first.startswith("apt-get ")
    assert steps[0].startswith("packaging/build-deb ")
    # This one was taken to make the package at hand.
    (tmp_path / "package").mkdir()
    shutil.copy(deb, tmp_path / "package")
    for step in steps[1:]:
        run("sh", "-euc", re.sub(r"/(package|image)\b", rf"{tmp_path}/\1", step))
    assert re.findall(r"^USER (\d+)", text, re.M) == ["65532"]
    image = tmp_path / "image"
    notices = {str(path.relative_to(image)) for path in image.rglob("usr/share/**/*") if path.is_file()}
    names = ("filmgate", "libc6", "libgcc-s1", "ca-certificates")
    assert notices == {f"usr/share/doc/{name}/copyright" for name in names} | {"usr/share/doc/filmgate/sbom.cdx.json"}
    assert not list(image.rglob("*.d/filmgate.conf")) and not list(image.rglob("*.service"))
    assert not (image / "bin").exists() and not list(image.rglob("sh"))
    if os.getuid() == 0:
        run("chroot", "--userspec=65532:65532", image, "/usr/bin/filmgate", "--version")
        printed = run("chroot", "--userspec=65532:65532", image, "/usr/bin/filmgate", "check", status=2)
        assert "/etc/filmgate/tls/fullchain.pem" in printed
