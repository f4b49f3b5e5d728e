"""Classes of ocean profiles on a map: what pyxpcm does, out of core, with a land mask that stays a mask.

The dataset is small and made up, as CF has it: temperature and salinity on a grid, packed into 16-bit integers in Zarr,
missing over land. Three water masses meet along two fronts. Needs ``pip install "streamem[xarray,plot]"``.
"""

import matplotlib
import numpy as np
import xarray as xr
from sklearn.pipeline import make_pipeline

import streamem.xarray  # noqa: F401  (gives Datasets the accessor .streamem)
from streamem import GaussianMixture
from streamem.plots import plot_labels
from streamem.preprocessing import PCA, StandardScaler

matplotlib.use("Agg")

# --- a made-up ocean -------------------------------------------------------------------------------------------------

rng = np.random.default_rng(0)
lat, lon, depth = np.arange(-59.0, 60.0, 2.0), np.arange(1.0, 360.0, 3.0), np.arange(0.0, 1000.0, 50.0)
front = 3 * np.sin(np.deg2rad(4 * lon))
mass = 2 - (lat[:, None] > -20 + front).astype(int) - (lat[:, None] > 25 + front)  # 0 north, 1 tropics, 2 south
top, bottom = np.array([14.0, 27.0, 5.0]), np.array([7.0, 5.0, 2.0])
salt = np.array([35.2, 36.0, 34.2])
decay = np.exp(-depth / 300)
temperature = bottom[mass][..., None] + (top - bottom)[mass][..., None] * decay + rng.normal(0, 0.4, (60, 120, 20))
salinity = salt[mass][..., None] + 0.3 * decay + rng.normal(0, 0.05, (60, 120, 20))
land = (np.abs(lon - 100) < 30) & (np.abs(lat[:, None] - 10) < 25) | (np.hypot(lon - 290, 2 * lat[:, None] + 20) < 45)
dims = ("lat", "lon", "depth")
ocean = xr.Dataset(
    {
        "TEMP": (dims, np.where(land[..., None], np.nan, temperature), {"units": "degree_Celsius"}),
        "PSAL": (dims, np.where(land[..., None], np.nan, salinity), {"units": "1e-3"}),
    },
    {"lat": lat, "lon": lon, "depth": depth},
)
packed = {"dtype": "int16", "scale_factor": 1e-3, "add_offset": 20.0, "_FillValue": -32768}
ocean.chunk({"lat": 10}).to_zarr("ocean.zarr", encoding={"TEMP": packed, "PSAL": packed}, mode="w", consolidated=False)

# --- the job ---------------------------------------------------------------------------------------------------------

ds = xr.open_zarr("ocean.zarr", consolidated=False)
model = make_pipeline(StandardScaler(), PCA(0.95), GaussianMixture(3, random_state=0))
ds.streamem.fit(model, columns=["TEMP", "PSAL"], feature_axis="depth")
ds["label"] = ds.streamem.predict(model, columns=["TEMP", "PSAL"], feature_axis="depth")
plot_labels(ds.label.where(ds.label >= 0)).figure.savefig("ocean.png")

# --- what came out ---------------------------------------------------------------------------------------------------

print(ds.label.dims, "in", int((ds.label < 0).sum()), "of", ds.label.size, "points is land; the map is ocean.png")
for k in range(3):
    surface = ds.TEMP.isel(depth=0).where(ds.label == k)
    print(f"class {k}: {int((ds.label == k).sum())} points, {float(surface.mean()):.1f} °C at the surface")

assert ((ds.label.values < 0) == land).all()
for k in range(3):  # every water mass is one class
    found = np.bincount(ds.label.values[~land & (mass == k)])
    assert found.max() > 0.97 * found.sum()
