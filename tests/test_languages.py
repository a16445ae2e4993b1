"""The table of languages: codes, aliases and facts."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import pytest

from maple import languages
from maple.errors import CatalogError
from maple.languages import all_languages, find, upstream_name

# https://github.com/facebookresearch/belebele, the 122 variants.
BELEBELE = """
acm_Arab afr_Latn als_Latn amh_Ethi apc_Arab arb_Arab arb_Latn ars_Arab ary_Arab arz_Arab asm_Beng
azj_Latn bam_Latn ben_Beng ben_Latn bod_Tibt bul_Cyrl cat_Latn ceb_Latn ces_Latn ckb_Arab dan_Latn
deu_Latn ell_Grek eng_Latn est_Latn eus_Latn fin_Latn fra_Latn fuv_Latn gaz_Latn grn_Latn guj_Gujr
hat_Latn hau_Latn heb_Hebr hin_Deva hin_Latn hrv_Latn hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn
isl_Latn ita_Latn jav_Latn jpn_Jpan kac_Latn kan_Knda kat_Geor kaz_Cyrl kea_Latn khk_Cyrl khm_Khmr
kin_Latn kir_Cyrl kor_Hang lao_Laoo lin_Latn lit_Latn lug_Latn luo_Latn lvs_Latn mal_Mlym mar_Deva
mkd_Cyrl mlt_Latn mri_Latn mya_Mymr nld_Latn nob_Latn npi_Deva npi_Latn nso_Latn nya_Latn ory_Orya
pan_Guru pbt_Arab pes_Arab plt_Latn pol_Latn por_Latn ron_Latn rus_Cyrl shn_Mymr sin_Latn sin_Sinh
slk_Latn slv_Latn sna_Latn snd_Arab som_Latn sot_Latn spa_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn
swh_Latn tam_Taml tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi tsn_Latn tso_Latn tur_Latn ukr_Cyrl
urd_Arab urd_Latn uzn_Latn vie_Latn war_Latn wol_Latn xho_Latn yor_Latn zho_Hans zho_Hant zsm_Latn
zul_Latn
"""

# The configurations of csebuetnlp/xlsum.
XLSUM = """
amharic arabic azerbaijani bengali burmese chinese_simplified chinese_traditional english french
gujarati hausa hindi igbo indonesian japanese kirundi korean kyrgyz marathi nepali oromo pashto
persian pidgin portuguese punjabi russian scottish_gaelic serbian_cyrillic serbian_latin sinhala
somali spanish swahili tamil telugu thai tigrinya turkish ukrainian urdu uzbek vietnamese welsh
yoruba
"""

# Resource classes of Joshi et al. 2020 for the languages of the paper's benchmarks.
CLASSES = {
    5: "en es de ja fr ar zh",
    4: "hi ru tr vi it ko pt eu nl pl cs fi sv hu fa sr hr",
    3: "bg el th ur et id ta ro da he uk bn af gl ka lt lv sl tl kk uz",
    2: "sw ht mr pa ha yo am ti xh",
    1: "qu my te gu ne ps az so ig om rn cy gd mk ml mn km nb nn",
    0: "pcm",
}


def test_the_table_is_sorted_and_big_enough() -> None:
    codes = [language.code for language in all_languages()]
    assert codes == sorted(set(codes))
    assert len(codes) >= 130


def test_every_row_is_well_formed() -> None:
    for language in all_languages():
        assert re.fullmatch(r"[a-z]{3}_[A-Z][a-z]{3}", language.code)
        assert re.fullmatch(r"[a-z]{2,3}(-[A-Z][a-z]{3})?", language.tag)
        assert language.name
        assert language.family
        assert language.region
        assert language.resource_class in (None, 0, 1, 2, 3, 4, 5)
        assert all(a == a.strip().lower() for a in language.aliases)


def test_no_key_means_two_languages() -> None:
    keys = Counter(k for language in all_languages() for k in languages._keys(language))
    assert [k for k, n in keys.items() if n > 1] == []


def test_tags_and_names_are_unique() -> None:
    for field in ("tag", "name"):
        values = Counter(getattr(language, field) for language in all_languages())
        assert max(values.values()) == 1


def test_find_understands_everything_a_language_is_called() -> None:
    for language in all_languages():
        tag_with_script = f"{language.tag[:3].rstrip('-')}-{language.script}"
        for alias in (language.code, language.tag, language.name, *language.aliases):
            assert find(alias) is language
            assert find(alias.upper()) is language
        assert find(tag_with_script) is language


def test_every_belebele_variant_is_there() -> None:
    codes = BELEBELE.split()
    assert len(codes) == 122
    assert [find(code).code for code in codes] == codes


def test_every_xlsum_name_is_understood() -> None:
    assert len({find(name).code for name in XLSUM.split()}) == 45


@pytest.mark.parametrize(
    ("alias", "code"),
    [
        ("sw", "swh_Latn"), ("swahili", "swh_Latn"), ("swa", "swh_Latn"), ("zh", "zho_Hans"),
        ("zh-Hant", "zho_Hant"), ("zh_TW", "zho_Hant"), ("cmn_Hans", "zho_Hans"),
        ("ar", "arb_Arab"), ("et", "est_Latn"), ("ekk_Latn", "est_Latn"), ("qu", "quy_Latn"),
        ("qve", "qve_Latn"), ("fa", "pes_Arab"), ("ms", "zsm_Latn"), ("uz", "uzn_Latn"),
        ("uz-Cyrl", "uzn_Cyrl"), ("az", "azj_Latn"), ("lv", "lvs_Latn"), ("mn", "khk_Cyrl"),
        ("ne", "npi_Deva"), ("ps", "pbt_Arab"), ("or", "ory_Orya"), ("iw", "heb_Hebr"),
        ("sr", "srp_Cyrl"), ("sr-Latn", "srp_Latn"), ("tl", "tgl_Latn"), ("fil", "tgl_Latn"),
        ("no", "nob_Latn"), ("rn", "run_Latn"), ("om", "gaz_Latn"), ("sq", "als_Latn"),
    ],
)  # fmt: skip
def test_macrolanguages_mean_their_most_used_member(alias: str, code: str) -> None:
    assert find(alias).code == code


@pytest.mark.parametrize(
    ("alias", "resource_class"), [(a, c) for c, names in CLASSES.items() for a in names.split()]
)
def test_resource_classes_are_joshis(alias: str, resource_class: int) -> None:
    assert find(alias).resource_class == resource_class


def test_a_language_that_the_taxonomy_lacks_has_no_class() -> None:
    assert find("ary_Arab").resource_class is None


def test_scripts_know_their_direction_and_spaces() -> None:
    assert {a for a in ("ar", "he", "ur", "dv", "ckb", "en") if find(a).is_right_to_left} == {
        "ar", "he", "ur", "dv", "ckb",
    }  # fmt: skip
    without = {
        a
        for a in ["zh", "ja", "th", "km", "lo", "my", "bo", "yue", "ko", "vi", "hi"]
        if find(a).writes_without_spaces
    }
    assert without == {"zh", "ja", "th", "km", "lo", "my", "bo", "yue"}


def test_spot_facts() -> None:
    swahili = find("sw")
    assert (swahili.name, swahili.tag, swahili.script) == ("Swahili", "sw", "Latn")
    assert (swahili.family, swahili.region) == ("Atlantic-Congo", "Eastern Africa")
    assert find("eu").family == "Language isolate"
    assert find("th").region == "South-eastern Asia"


def test_an_unknown_language_suggests_near_ones() -> None:
    with pytest.raises(CatalogError, match=r"no language 'swahilli'\. Did you mean 'swahili' "):
        find("swahilli")
    with pytest.raises(CatalogError, match="no language ''"):
        find("")


def test_upstream_names_are_refused_with_those_there_are() -> None:
    assert upstream_name("swh_Latn", {"swh_Latn": "sw"}, "xnli") == "sw"
    with pytest.raises(CatalogError, match=r"no language of xnli 'yor_Latn'.*Known: swh_Latn"):
        upstream_name("yor_Latn", {"swh_Latn": "sw"}, "xnli")


def test_importing_reads_no_table_and_nothing_heavy() -> None:
    program = (
        "import sys, maple.languages as m\n"
        "assert m.all_languages.cache_info().currsize == 0\n"
        "heavy = {'torch', 'transformers', 'pydantic', 'pyarrow', 'babel', 'huggingface_hub'}\n"
        "assert not heavy & set(sys.modules)\n"
    )
    subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": ":".join(sys.path)}, check=True
    )
